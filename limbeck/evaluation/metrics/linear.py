"""Linear probe accuracy, by the protocol that the configuration chooses."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Metric, Values, share_column
from limbeck.evaluation.probes import accuracies

TOP = 5  # classes that may be right


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Score the probes of all depths on the test images, those of the logistic probe also by their top 5."""
    labels = inputs.data.labels
    assert labels is not None
    shares = accuracies(inputs.probe_predictions, labels.test)
    found: dict[int, Values] = {depth: {"linear": share} for depth, share in shares.items()}
    if inputs.data.linear_probe == "logistic" and labels.classes > TOP:
        top = inputs.heads.top_accuracy(inputs.test_bank, labels.test, TOP).tolist()
        for depth, share in zip(inputs.heads.depths, top, strict=True):
            found[depth]["linear_top5"] = share
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
