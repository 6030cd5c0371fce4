"""Weighted k-NN accuracy, the protocol of DINO."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Computed, Metric, share_column
from limbeck.metrics.knn import knn_classes

TOP = 5  # classes that may be right


def compute(inputs: MetricInputs) -> dict[int, Computed]:
    """Vote with the nearest training images of every test image, once for both columns."""
    k, temperature, labels = inputs.data.k, inputs.data.cfg.temperature, inputs.data.labels
    assert labels is not None
    found: dict[int, Computed] = {}
    for depth in inputs.depths:
        train, train_labels, test, test_labels = inputs.labeled(depth)
        right = knn_classes(train, train_labels, test, k, temperature, TOP) == test_labels[:, None]
        found[depth] = {"knn": right[:, 0]}
        if labels.classes > TOP:
            found[depth]["knn_top5"] = right.any(dim=1)
    return found


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="knn",
            label="k-NN",
            better="higher",
            accuracy=True,
            help="accuracy of a weighted vote of the k nearest training images by cosine; k is 20, or the number of "
            "images of the smallest class if that is less",
        ),
        share_column(
            name="knn_top5",
            label="k-NN, top 5",
            better="higher",
            accuracy=True,
            priority=3,
            help="share of the test images whose class has one of the five largest votes of these neighbors (a class "
            "without a vote never counts); for more than five classes",
        ),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
