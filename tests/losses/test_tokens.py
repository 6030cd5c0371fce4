"""Token similarities against a loop and the authors' numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.tokens import token_relation_loss
from tests.helpers.golden import GOLDEN


def loop(student: Tensor, teacher: Tensor, temperature: float, diagonal: bool) -> Tensor:
    """Compute the loss position by position."""
    total, rows = torch.zeros((), dtype=student.dtype), 0
    for found, wanted in zip(student.flatten(2).mT, teacher.flatten(2).mT, strict=True):
        for i in range(len(wanted)):
            others = [j for j in range(len(wanted)) if diagonal or j != i]
            p, s = (
                torch.stack([F.cosine_similarity(tokens[i], tokens[j], dim=0) / temperature for j in others])
                for tokens in (wanted, found)
            )
            total = total + (p.softmax(0) * (p.log_softmax(0) - s.log_softmax(0))).sum()
            rows += 1
    return total / rows


@pytest.mark.parametrize("diagonal", [False, True])
def test_equals_its_definition(diagonal: bool) -> None:
    torch.manual_seed(0)
    student = torch.randn(2, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 7, 3, 2, dtype=torch.float64)
    losses = [f(student, teacher, 0.3, diagonal) for f in (token_relation_loss, loop)]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(loss, student)[0] for loss in losses), rtol=1e-10, atol=1e-12)


def test_a_coarser_map_is_resized_to_the_teachers() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(2, 4, 4, 4)
    assert token_relation_loss(teacher, teacher, 0.1).abs() < 1e-6
    coarse = F.avg_pool2d(teacher, 2)
    expected = token_relation_loss(F.interpolate(coarse, (4, 4), mode="bilinear"), teacher, 0.1)
    assert torch.equal(token_relation_loss(coarse, teacher, 0.1), expected)


def test_the_authors_numbers() -> None:
    """With the diagonal, as in lightly-train; tokens are a row of positions."""
    data = np.load(GOLDEN / "lightly_v3.npz")
    student = torch.from_numpy(data["student_local_raw"]).requires_grad_()
    teacher = torch.from_numpy(data["teacher_local_raw"])
    maps = [tokens.mT.unsqueeze(2) for tokens in (student, teacher)]
    loss = token_relation_loss(maps[0], maps[1], 0.07, diagonal=True)
    torch.testing.assert_close(loss, torch.as_tensor(data["loss_local"]), rtol=0, atol=1e-10)
    expected = torch.from_numpy(data["grad_student_local_raw"])
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], expected, rtol=0, atol=1e-10)
