"""Uniformity of the features on the sphere (Wang & Isola 2020)."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values
from limbeck.metrics.representation import uniformity


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Measure the first augmented view of a sample of the test images."""
    first, _ = inputs.views
    return {depth: {"uniformity": uniformity(first[depth]).item()} for depth in inputs.depths}


METRIC = Metric(
    group="representation",
    columns=(
        Column(
            name="uniformity",
            label="uniformity",
            better="lower",
            priority=2,
            help="log of the mean of exp(-2 d^2) over pairs of images at distance d; 0 is a single point",
        ),
    ),
    needs=frozenset({"views"}),
    compute=compute,
)
