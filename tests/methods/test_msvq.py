"""What MSVQ alone decides: which teacher sees which view, which keys are kept; the authors' numbers."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from limbeck.core.errors import UserError
from limbeck.core.types import DataContext, LossOutput, StepInfo
from limbeck.methods.msvq import MSVQ, MSVQConfig
from limbeck.methods.ressl import ReSSLConfig
from tests.helpers.tiny import batch_for, tiny_vit

CLOCK = StepInfo(0, 10)
TINY = MSVQConfig(hidden=12, dim=6, queue=12)


def msvq() -> MSVQ:
    torch.manual_seed(0)
    method = TINY.build(tiny_vit()).double()
    with torch.no_grad():
        for teacher in (method.teacher, method.second_teacher):
            for parameter in teacher.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return method


def relation(row: Tensor, bank: Tensor, t: float) -> Tensor:
    """Of one row: the exponentials of its cosines with the unit rows of the bank, divided by their sum."""
    weights = torch.stack([torch.exp(row @ b / row.norm() / t) for b in bank])
    return weights / weights.sum()


def test_three_targets_of_two_teachers() -> None:
    method, batch = msvq(), batch_for(TINY, 4, torch.float64)
    queries = method.head.project(method.backbone(batch.views[0]).final)
    expected = torch.zeros((), dtype=torch.float64)
    answers = (
        (method.teacher, batch.views[1], "first"),
        (method.teacher, batch.views[2], "first"),
        (method.second_teacher, batch.views[3], "second"),
    )
    for teacher, view, stream in answers:
        bank = method.queue[stream]
        for q, k in zip(queries, teacher.module(view), strict=True):
            expected = expected - relation(k, bank, 0.04) @ relation(q, bank, 0.1).log() / 4 / 3

    loss = method(batch, CLOCK)
    torch.testing.assert_close(loss.total, expected, rtol=1e-10, atol=1e-12)
    learnt = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(*(torch.autograd.grad(value, learnt) for value in (loss.total, expected)), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-12)


def answering(keys: Iterator[Tensor]) -> Callable[..., Tensor]:
    return lambda view, teacher=None: next(keys)


def test_loss_gradient_and_queues_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    """Theirs hold rows of any length and drop what is beyond the end of the queue; ours are rings of unit rows.

    So the 5th row, which they drop, is the one that ours puts in the first place.
    """
    g = {k: torch.as_tensor(v) for k, v in golden("msvq_loss").items() if v.dtype.kind != "U"}
    method, queries = msvq(), g["z1_raw_student"].requires_grad_(True)
    for stream, name in (("first", "queue1"), ("second", "queue2")):
        method.queue[stream].copy_(normalize(g[f"{name}_before"].T, dim=1))
    method.queue.pushed.fill_(int(g["ptr_before"]))
    first, second = g["z2_raw_teacher1"], g["z4_raw_teacher2"]
    method.teach = answering(iter([first, second, g["z3_raw_teacher1"]]))  # type: ignore[method-assign]
    step = method.encode(batch_for(TINY, 5, torch.float64))
    loss = method.pair_loss(queries, step.targets[0])
    loss.backward()
    torch.testing.assert_close(loss.detach(), g["loss"], rtol=1e-9, atol=0)
    torch.testing.assert_close(queries.grad, g["grad_z1_raw"], rtol=1e-9, atol=1e-9)

    method.after_step(LossOutput(loss, {}, step.memory), CLOCK)
    for stream, name, keys in (("first", "queue1", first), ("second", "queue2", second)):
        theirs = normalize(g[f"{name}_after"].T, dim=1)
        torch.testing.assert_close(method.queue[stream][1:], theirs[1:], rtol=0, atol=1e-12)
        torch.testing.assert_close(method.queue[stream][0], normalize(keys[4], dim=0), rtol=0, atol=1e-12)


def test_each_teacher_has_its_own_inertia() -> None:
    method = msvq()
    before = [[p.clone() for p in t.parameters()] for t in (method.teacher, method.second_teacher)]
    student = [*method.backbone.parameters(), *method.head.projector.parameters()]
    method.after_step(method(batch_for(TINY, 4, torch.float64), CLOCK), CLOCK)
    teachers = zip((method.teacher, method.second_teacher), before, (0.99, 0.95), strict=True)
    for teacher, old, momentum in teachers:
        for now, was, target in zip(teacher.parameters(), old, student, strict=True):
            torch.testing.assert_close(now, momentum * was + (1 - momentum) * target)


def test_with_equal_teachers_queues_and_weak_views_it_is_ressl() -> None:
    torch.manual_seed(0)
    method = TINY.build(tiny_vit()).double()
    method.queue["second"].copy_(method.queue["first"])
    batch = batch_for(TINY, 4, torch.float64)
    strong, weak, *_ = batch.views
    ressl = ReSSLConfig(hidden=12, dim=6, queue=12).build(method.backbone).double()
    ressl.head, ressl.teacher = method.head, method.teacher
    ressl.queue["keys"].copy_(method.queue["first"])
    expected = ressl(batch._replace(views=(strong, weak)), CLOCK).total
    torch.testing.assert_close(method(batch._replace(views=(strong, weak, weak, weak)), CLOCK).total, expected)


def test_views_that_do_not_suit_are_refused() -> None:
    with pytest.raises(UserError, match=r"'ressl' are 2 of each image and msvq compares 4; choose one of msvq"):
        MSVQConfig(views="ressl").make_views(32)


def test_a_queue_that_does_not_suit_is_refused() -> None:
    with pytest.raises(UserError, match=r"4,097 rows is larger than the store of 1,000 images; take at most 1,000"):
        MSVQConfig(queue=4097).resolve(DataContext(num_images=1000, batch_size=256, forward_batch_size=256))
