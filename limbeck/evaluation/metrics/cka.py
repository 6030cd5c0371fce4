"""Linear CKA of a student with its teacher (Kornblith et al. 2019)."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values
from limbeck.metrics.fidelity import linear_cka


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Compare the features of all test images."""
    assert inputs.teacher is not None
    found = {depth: linear_cka(inputs.test(depth), inputs.teacher) for depth in inputs.depths}
    return {depth: {"cka": cka, "cka_chance": chance} for depth, (cka, chance) in found.items()}


METRIC = Metric(
    group="fidelity",
    columns=(
        Column(
            name="cka",
            label="CKA",
            better="higher",
            help="linear CKA with the teacher: 1 is the same up to rotation and scale",
        ),
        Column(
            name="cka_chance",
            label="CKA by chance",
            short="by chance",
            reference=True,
            help="mean of `cka` over all pairings of the two sets of vectors",
        ),
    ),
    needs=frozenset({"teacher"}),
    compute=compute,
)
