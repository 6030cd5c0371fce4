"""Effective rank of the features (RankMe)."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, decimals
from limbeck.metrics.representation import effective_rank


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Measure the features of all test images."""
    return {depth: {"effective_rank": effective_rank(inputs.test(depth)).item()} for depth in inputs.depths}


METRIC = Metric(
    group="representation",
    columns=(
        Column(
            name="effective_rank",
            label="effective rank",
            short="rank",
            format=decimals(1),
            help="number of directions that the features use; near 1 means collapse",
        ),
    ),
    untrained=True,
    compute=compute,
)
