"""Mean cosine of a student's vector with its teacher's."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values
from limbeck.metrics.fidelity import mean_cosine


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Compare the two vectors of every test image."""
    assert inputs.teacher is not None
    return {depth: {"cosine": mean_cosine(inputs.test(depth), inputs.teacher)} for depth in inputs.depths}


METRIC = Metric(
    group="fidelity",
    columns=(
        Column(
            name="cosine",
            label="cosine with the teacher",
            better="higher",
            priority=3,
            help="mean cosine of the two vectors of an image; null where the widths differ",
        ),
    ),
    needs=frozenset({"teacher"}),
    compute=compute,
)
