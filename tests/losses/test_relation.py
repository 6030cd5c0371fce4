"""Relations against loops and against the authors' numbers: value and gradient."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.relation import relation, relation_divergence, relation_loss
from tests.helpers.golden import assert_allclose

Golden = Callable[[str], dict[str, np.ndarray]]


def loop_relation(row: Tensor, bank: Tensor, t: float) -> list[Tensor]:
    weights = [torch.exp(row @ b / (row.norm() * b.norm()) / t) for b in bank]
    return [w / sum(weights) for w in weights]


def loop_loss(student: Tensor, bank: Tensor, t: float, target: list[list[Tensor]]) -> Tensor:
    total = student.new_zeros(())
    for row, wanted in zip(student, target, strict=True):
        for p, q in zip(loop_relation(row, bank, t), wanted, strict=True):
            total = total - q * torch.log(p)
    return total / len(student)


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=1)


def test_equals_its_definition() -> None:
    """Two banks, two temperatures; also the gradient of the target, which a method may use."""
    student, teacher = (torch.randn(4, d, dtype=torch.float64).requires_grad_(True) for d in (5, 3))
    banks = unit(7, 5), unit(7, 3)
    fast = relation_loss(student, banks[0], 0.1, relation(teacher, banks[1], 0.3))
    slow = loop_loss(student, banks[0], 0.1, [loop_relation(row, banks[1], 0.3) for row in teacher])
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    for pair in zip(*(torch.autograd.grad(loss, (student, teacher)) for loss in (fast, slow)), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-10, atol=1e-12)


def test_ressl_of_the_authors(golden: Golden) -> None:
    g = {k: torch.as_tensor(v) for k, v in golden("ressl_loss").items() if v.dtype.kind != "U"}
    student, bank = g["q_raw"].requires_grad_(True), g["queue_before"].T
    value = relation_loss(student, bank, 0.1, relation(g["k_raw"], bank, 0.04))
    value.backward()
    assert_allclose(value.item(), g["loss"], rtol=1e-9)
    assert_allclose(student.grad, g["grad_q_raw"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("crops", [1, 3])
def test_cgh_of_the_authors(golden: Golden, crops: int) -> None:
    """Each context of the student against the other context of the EMA encoder; all crops have the same target."""
    g = {k: torch.as_tensor(v) for k, v in golden("cgh_loss").items() if v.dtype.kind != "U"}
    case = "main" if crops == 1 else "multi"
    banks = g["queue_global"].T, g["queue_hyper"].T
    students = torch.cat([g["q_raw"][None], g["multi_local_raw"]])[:crops].requires_grad_(True)
    hyper = g["qh_raw"].requires_grad_(True)
    from_global, from_hyper = relation(g["k_raw"], banks[0], 0.04), relation(g["kh_raw"], banks[1], 0.08)
    to_hyper = relation_loss(hyper, banks[1], 0.08, from_global)
    to_global = torch.stack([relation_loss(s, banks[0], 0.1, from_hyper) for s in students]).mean()
    (to_hyper / 2 + to_global / 2).backward()
    assert_allclose(to_hyper.item(), g["main_loss_hyper_from_global"], rtol=1e-9)
    assert_allclose(to_global.item(), g[f"{case}_loss_global_from_hyper"], rtol=1e-9)
    assert students.grad is not None
    assert_allclose(students.grad[0], g[f"{case}_grad_q_raw"], rtol=1e-9, atol=1e-9)
    assert_allclose(students.grad[1:], g["multi_grad_local_raw"][: crops - 1], rtol=1e-9, atol=1e-9)
    assert_allclose(hyper.grad, g[f"{case}_grad_qh_raw"], rtol=1e-9, atol=1e-9)


def test_the_loss_is_least_where_the_relations_agree() -> None:
    """The minimum is the entropy of the target."""
    rows, bank = torch.randn(6, 5, dtype=torch.float64), unit(9, 5)
    target = relation(rows, bank, 0.2)
    entropy = -(target * target.log()).sum(dim=1).mean()
    torch.testing.assert_close(relation_loss(rows, bank, 0.2, target), entropy)
    assert relation_loss(torch.randn_like(rows), bank, 0.2, target) > entropy


def test_autocast_changes_nothing() -> None:
    rows, bank = torch.randn(6, 4), F.normalize(torch.randn(8, 4), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = relation_loss(rows, bank, 0.1, relation(rows, bank, 0.04))
    assert inside.dtype is torch.float32
    outside = relation_loss(rows, bank, 0.1, relation(rows, bank, 0.04))
    assert math.isclose(inside.item(), outside.item(), rel_tol=1e-6)


def test_a_separate_positive_is_the_first_candidate() -> None:
    """It is as if each row had a bank of its own, in value and gradient."""
    student, teacher, positive = (torch.randn(4, 5, dtype=torch.float64).requires_grad_(i == 0) for i in range(3))
    bank = unit(7, 5)
    banks = [torch.cat([row[None] / row.norm(), bank]) for row in positive]
    targets = [loop_relation(row, each, 0.3) for row, each in zip(teacher, banks, strict=True)]
    found = relation(teacher, bank, 0.3, positive=positive)
    torch.testing.assert_close(found, torch.stack([torch.stack(row) for row in targets]))
    fast = relation_loss(student, bank, 0.1, found, positive=positive)
    each = zip(student, banks, targets, strict=True)
    slow = torch.stack([loop_loss(row[None], candidates, 0.1, [target]) for row, candidates, target in each]).mean()
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(loss, student)[0] for loss in (fast, slow)))


def test_a_divergence_is_a_cross_entropy_minus_the_entropy_of_the_target() -> None:
    student, bank = torch.randn(4, 5, dtype=torch.float64).requires_grad_(True), unit(7, 5)
    target = relation(torch.randn(4, 5, dtype=torch.float64), bank, 0.01)
    divergence, loss = (f(student, bank, 0.1, target) for f in (relation_divergence, relation_loss))
    entropy = -torch.stack([p * p.log() for p in target.flatten() if p > 0]).sum() / 4
    torch.testing.assert_close(divergence, loss - entropy)
    torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in (divergence, loss)))
    assert relation_divergence(bank, bank, 0.1, relation(bank, bank, 0.1)).abs() < 1e-12
