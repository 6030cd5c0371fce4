"""Linear probe accuracy, by the protocol that the configuration chooses."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, decimals
from limbeck.evaluation.probes import accuracies


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Fit the probes of all depths on the training images and score them on the test images."""
    assert inputs.data.labels is not None
    found = accuracies(inputs.probe_predictions, inputs.data.labels.test)
    return {depth: {"linear": accuracy} for depth, accuracy in found.items()}


METRIC = Metric(
    group="accuracy",
    columns=(
        Column(
            name="linear",
            label="linear",
            unit="%",
            scale=100,
            format=decimals(1),
            better="higher",
            accuracy=True,
            help="accuracy of a linear classifier on the features",
        ),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
