"""Accuracy of the nearest neighbor by features of series, TS2Vec's protocol."""

from limbeck.classification.series_protocols import nearest_row
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Computed, Metric, share_column


def compute(inputs: MetricInputs) -> dict[int, Computed]:
    """Take the class of the nearest training series of every test series."""
    found: dict[int, Computed] = {}
    for depth in inputs.depths:
        train, train_labels, test, test_labels = inputs.labeled(depth)
        found[depth] = {"one_nn": nearest_row(train, train_labels, test) == test_labels.cpu()}
    return found


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="one_nn",
            label="1-NN",
            better="higher",
            accuracy=True,
            priority=1,
            help="of series: accuracy of the nearest training series by Euclidean distance of standardized features "
            "(TS2Vec's protocol)",
        ),
    ),
    needs=frozenset({"labels", "series"}),
    untrained=True,
    compute=compute,
)
