"""Unweighted Euclidean 5-NN accuracy, the protocol of W-MSE."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Computed, Metric, share_column
from limbeck.metrics.knn import euclidean_knn_correct


def compute(inputs: MetricInputs) -> dict[int, Computed]:
    """Take the majority of the five nearest training images of every test image."""
    return {depth: {"knn5": euclidean_knn_correct(*inputs.labeled(depth))} for depth in inputs.depths}


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="knn5",
            label="5-NN",
            better="higher",
            accuracy=True,
            priority=2,
            help="accuracy of the majority of the 5 nearest training images, unweighted, by Euclidean distance",
        ),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
