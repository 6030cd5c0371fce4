"""Weighted k-NN accuracy, the protocol of DINO."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, decimals
from limbeck.metrics.knn import knn_accuracy


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Vote with the nearest training images of every test image."""
    k, temperature = inputs.data.k, inputs.data.cfg.temperature
    return {depth: {"knn": knn_accuracy(*inputs.labeled(depth), k, temperature)} for depth in inputs.depths}


METRIC = Metric(
    group="accuracy",
    columns=(
        Column(
            name="knn",
            label="k-NN",
            unit="%",
            scale=100,
            format=decimals(1),
            better="higher",
            accuracy=True,
            help="accuracy of a weighted vote of the k nearest training images by cosine; k is 20, or the number of "
            "images of the smallest class if that is less",
        ),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
