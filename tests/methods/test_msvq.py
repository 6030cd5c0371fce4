"""MSVQ: the view of each EMA encoder, the keys that are enqueued; the authors' numbers."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from limbeck.core.types import DataContext, LossOutput, StepInfo
from limbeck.methods.config.msvq import MSVQConfig
from limbeck.methods.config.ressl import ReSSLConfig
from limbeck.methods.msvq import MSVQ
from tests.helpers.errors import raises
from tests.helpers.tiny import batch_for, tiny_vit

STEP = StepInfo(0, 10)
TINY = MSVQConfig(hidden=12, dim=6, queue_size=12)


def msvq() -> MSVQ:
    torch.manual_seed(0)
    method = TINY.build(tiny_vit()).double()
    with torch.no_grad():
        for ema in (method.ema_encoder, method.second_ema_encoder):
            for parameter in ema.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return method


def relation(row: Tensor, bank: Tensor, t: float) -> Tensor:
    """Return the softmax of a row's cosines with the unit rows of the bank."""
    weights = torch.stack([torch.exp(row @ b / row.norm() / t) for b in bank])
    return weights / weights.sum()


def test_three_targets_of_two_ema_encoders() -> None:
    method, batch = msvq(), batch_for(TINY, 4, torch.float64)
    queries = method.head.project(method.backbone(batch.views[0]).final)
    expected = torch.zeros((), dtype=torch.float64)
    targets = (
        (method.ema_encoder, batch.views[1], "first"),
        (method.ema_encoder, batch.views[2], "first"),
        (method.second_ema_encoder, batch.views[3], "second"),
    )
    for ema, view, name in targets:
        bank = method.queue[name]
        for q, k in zip(queries, ema.module(view), strict=True):
            expected = expected - relation(k, bank, 0.04) @ relation(q, bank, 0.1).log() / 4 / 3

    loss = method(batch, STEP)
    torch.testing.assert_close(loss.total, expected, rtol=1e-10, atol=1e-12)
    trained = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(*(torch.autograd.grad(value, trained) for value in (loss.total, expected)), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-12)


def returning(keys: Iterator[Tensor]) -> Callable[..., Tensor]:
    return lambda view, ema=None: next(keys)


def test_loss_gradient_and_queues_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    """The authors' queues hold rows of any length and drop rows beyond their end; Limbeck's are rings of unit rows.

    So the fifth row, which the authors drop, is in the first place here.
    """
    g = {k: torch.as_tensor(v) for k, v in golden("msvq_loss").items() if v.dtype.kind != "U"}
    method, queries = msvq(), g["z1_raw_student"].requires_grad_(True)
    for ring, name in (("first", "queue1"), ("second", "queue2")):
        method.queue[ring].copy_(normalize(g[f"{name}_before"].T, dim=1))
    method.queue.num_enqueued.fill_(int(g["ptr_before"]))
    first, second = g["z2_raw_teacher1"], g["z4_raw_teacher2"]
    method.ema_forward = returning(iter([first, second, g["z3_raw_teacher1"]]))  # type: ignore[method-assign]
    step = method.encode(batch_for(TINY, 5, torch.float64))
    loss = method.pair_loss(queries, step.targets[0])
    loss.backward()
    torch.testing.assert_close(loss.detach(), g["loss"], rtol=1e-9, atol=0)
    torch.testing.assert_close(queries.grad, g["grad_z1_raw"], rtol=1e-9, atol=1e-9)

    method.after_step(LossOutput(loss, {}, step.memory), STEP)
    for ring, name, keys in (("first", "queue1", first), ("second", "queue2", second)):
        expected = normalize(g[f"{name}_after"].T, dim=1)
        torch.testing.assert_close(method.queue[ring][1:], expected[1:], rtol=0, atol=1e-12)
        torch.testing.assert_close(method.queue[ring][0], normalize(keys[4], dim=0), rtol=0, atol=1e-12)


def test_each_ema_encoder_has_its_own_momentum() -> None:
    method = msvq()
    before = [[p.clone() for p in t.parameters()] for t in (method.ema_encoder, method.second_ema_encoder)]
    student = [*method.backbone.parameters(), *method.head.projector.parameters()]
    method.after_step(method(batch_for(TINY, 4, torch.float64), STEP), STEP)
    averages = zip((method.ema_encoder, method.second_ema_encoder), before, (0.99, 0.95), strict=True)
    for ema, old, momentum in averages:
        for now, was, target in zip(ema.parameters(), old, student, strict=True):
            torch.testing.assert_close(now, momentum * was + (1 - momentum) * target)


def test_with_equal_ema_encoders_queues_and_weak_views_it_is_ressl() -> None:
    torch.manual_seed(0)
    method = TINY.build(tiny_vit()).double()
    method.queue["second"].copy_(method.queue["first"])
    batch = batch_for(TINY, 4, torch.float64)
    strong, weak, *_ = batch.views
    ressl = ReSSLConfig(hidden=12, dim=6, queue_size=12).build(method.backbone).double()
    ressl.head, ressl.ema_encoder = method.head, method.ema_encoder
    ressl.queue["keys"].copy_(method.queue["first"])
    expected = ressl(batch._replace(views=(strong, weak)), STEP).total
    torch.testing.assert_close(method(batch._replace(views=(strong, weak, weak, weak)), STEP).total, expected)


def test_views_that_do_not_suit_are_refused() -> None:
    with raises("wrong-number-of-views", "ressl", "msvq needs 4"):
        MSVQConfig(views="ressl").make_views(32)


def test_a_queue_that_does_not_suit_is_refused() -> None:
    with raises("queue-too-large", "4,097", "1,000"):
        MSVQConfig(queue_size=4097).resolve(DataContext(num_images=1000, batch_size=256, forward_batch_size=256))
