"""Linear probe accuracy, by the protocol that the configuration chooses."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, decimals
from limbeck.evaluation.probes import probe_accuracies


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Fit the probes of all depths on the training images and score them on the test images."""
    data = inputs.data
    if data.linear_probe is None:
        return {}
    assert data.labels is not None
    text = data.description(f"{inputs.model.name}: linear probe")
    found = probe_accuracies(
        data.linear_probe, inputs.train_bank, inputs.test_bank, data.labels, data.cfg, data.device, text
    )
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
