"""Warn about a teacher before a distillation: a license that may bind the student, and its cost."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.metrics.cost import count_operations, count_parameters
from limbeck.models.eval_mode import eval_mode
from limbeck.models.licenses import license_fact
from limbeck.teachers.frozen import LoadedTeacher


def license_warning(teacher: LoadedTeacher) -> str | None:
    """Return a sentence if the teacher's license is known to bind distilled models or to forbid commercial use."""
    fact = license_fact(teacher.license, teacher.source)
    if fact is None:
        return None
    return (
        f"the teacher {teacher.source} has {fact}, and it may bind models distilled from the teacher; read it before "
        "you publish or sell the student"
    )


class NetworkCost(NamedTuple):
    """Cost of a network."""

    parameters: int
    operations: int  # for one row of its data; 0 if it computes without torch

    @classmethod
    def of(cls, network: nn.Module, row: Float[Tensor, "1 *item"]) -> Self:
        """Count a network that takes one `row`, such as an image, in evaluation mode."""
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        with eval_mode(network):
            return cls(count_parameters(network), count_operations(network, row.to(device)))

    @classmethod
    def total(cls, costs: Sequence["NetworkCost"]) -> Self:
        """Return the cost of several networks together."""
        return cls(sum(cost.parameters for cost in costs), sum(cost.operations for cost in costs))


def student_cost_warning(student: NetworkCost, teacher: NetworkCost) -> str | None:
    """Return a sentence if the student has more parameters than the teacher, or computes more for a row."""
    if student.parameters <= teacher.parameters and not student.operations > teacher.operations > 0:
        return None
    costs = [
        f"{cost.parameters / 1e6:.1f} M parameters and {cost.operations / 1e9:.2f} GFLOPs"
        for cost in (student, teacher)
    ]
    return (
        f"the student has {costs[0]} per input, its teacher {costs[1]}: distillation is meant for students that cost "
        "less than their teacher (--student and the options that begin with it)"
    )
