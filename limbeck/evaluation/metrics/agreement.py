"""Fraction of the teacher's nearest neighbors that a student preserves."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Metric, Values, share_column
from limbeck.metrics.fidelity import nearest_images, neighbor_agreement


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Compare the neighbors of every test image among the test images."""
    assert inputs.teacher is not None
    expected = nearest_images(inputs.teacher)
    return {
        depth: {"neighbor_agreement": neighbor_agreement(nearest_images(inputs.test(depth)), expected)}
        for depth in inputs.depths
    }


METRIC = Metric(
    group="fidelity",
    columns=(
        share_column(
            name="neighbor_agreement",
            label="neighbor agreement",
            short="neighbor agreem.",
            better="higher",
            help="fraction of a test image's 10 nearest test images, by cosine, that are also the teacher's",
        ),
    ),
    needs=frozenset({"teacher"}),
    compute=compute,
)
