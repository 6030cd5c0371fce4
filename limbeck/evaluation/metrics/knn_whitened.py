"""Weighted k-NN accuracy of half-whitened features."""

from jaxtyping import Bool
from torch import Tensor

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Computed, Metric, share_column
from limbeck.metrics.knn import knn_correct
from limbeck.metrics.whitening import HalfWhitening


def compute(inputs: MetricInputs) -> dict[int, Computed]:
    """Vote as for `knn`, on principal components of the training images, if the settings include it."""
    return {depth: {"knn_whitened": _correct(inputs, depth)} for depth in inputs.depths if inputs.data.cfg.whiten}


def _correct(inputs: MetricInputs, depth: int) -> Bool[Tensor, " M"]:
    train, train_labels, test, test_labels = inputs.labeled(depth)
    whiten = HalfWhitening.fit(train)
    k, temperature = inputs.data.k, inputs.data.cfg.temperature
    return knn_correct(whiten(train), train_labels, whiten(test), test_labels, k, temperature)


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="knn_whitened",
            label="k-NN, half-whitened",
            short="k-NN white",
            better="higher",
            accuracy=True,
            help="`knn` of at most 256 principal components of the training features, each divided by the fourth root "
            "of its variance (`--whiten`)",
        ),
    ),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
