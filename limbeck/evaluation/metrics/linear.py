"""Linear probe accuracy, by the protocol that the configuration chooses."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Computed, Metric, share_column

TOP = 5  # classes that may be right


def compute(inputs: MetricInputs) -> dict[int, Computed]:
    """Score the probes of all depths on the test images, those of the logistic probe also by their top 5."""
    labels = inputs.data.labels
    assert labels is not None
    predictions, truth = inputs.probe_predictions, labels.test.cpu()
    found: dict[int, Computed] = {depth: {"linear": each.cpu() == truth} for depth, each in predictions.items()}
    if inputs.data.linear_probe == "logistic" and labels.classes > TOP:
        top = inputs.heads.top_correct(inputs.test_bank, labels.test, TOP)
        for depth, right in zip(inputs.heads.depths, top, strict=True):
            found[depth]["linear_top5"] = right
    return found


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="linear",
            label="linear",
            better="higher",
            accuracy=True,
            help="accuracy of a linear classifier on the features",
        ),
        share_column(
            name="linear_top5",
            label="linear, top 5",
            better="higher",
            accuracy=True,
            priority=3,
            help="share of the test images whose class is among the five most probable ones of the logistic probe; "
            "for more than five classes",
        ),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
