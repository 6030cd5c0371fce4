"""BYOL: heads without a norm at their end, and an EMA encoder that starts as a copy."""

import torch
from torch import nn

from limbeck.core.types import StepInfo
from limbeck.methods.byol import BYOL
from limbeck.methods.config.byol import BYOLConfig
from tests.helpers.tiny import batch, tiny_vit

STEP = StepInfo(0, 10)


def byol(**settings: float) -> BYOL:
    torch.manual_seed(0)
    return BYOLConfig(hidden=12, dim=8, **settings).build(tiny_vit())  # type: ignore[arg-type]


def test_heads_end_without_a_norm() -> None:
    method = byol()
    assert method.head.predictor is not None
    for part in (method.head.projector, method.head.predictor, method.ema_encoder.module.projector):
        assert isinstance(part[-1], nn.Linear)  # type: ignore[index]


def test_the_ema_encoder_starts_as_a_copy_and_then_lags() -> None:
    method = byol(ema_momentum=0.5)
    student = [*method.backbone.parameters(), *method.head.projector.parameters()]
    averages = list(method.ema_encoder.module.parameters())
    assert all(torch.equal(*pair) for pair in zip(student, averages, strict=True))
    start = [p.detach().clone() for p in student]
    with torch.no_grad():
        for p in student:
            p.add_(1)
    method.after_step(method(batch(), STEP), STEP)
    for average, old, new in zip(averages, start, student, strict=True):
        torch.testing.assert_close(average, (old + new.detach()) / 2)


def test_the_ema_encoder_does_not_move_at_the_end() -> None:
    method = byol()
    before = [p.clone() for p in method.ema_encoder.parameters()]
    with torch.no_grad():
        for p in method.head.projector.parameters():
            p.add_(1)
    method.after_step(method(batch(), STEP), StepInfo(10, 10))
    assert all(torch.equal(*pair) for pair in zip(before, method.ema_encoder.parameters(), strict=True))


def test_the_loss_is_zero_for_a_perfect_prediction_and_four_for_the_opposite() -> None:
    method, targets = byol(), torch.randn(5, 8)
    torch.testing.assert_close(method.pair_loss(3 * targets, targets), torch.tensor(0.0))
    torch.testing.assert_close(method.pair_loss(-targets, targets), torch.tensor(4.0))


def test_the_ema_encoder_is_exported() -> None:
    method = byol()
    assert method.encoder() is method.ema_encoder.module.backbone
