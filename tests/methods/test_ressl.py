"""ReSSL: the view of each network, several crops per target, a head without norms; the authors' numbers."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.core.types import DataContext, StepInfo
from limbeck.methods.config.ressl import ReSSLConfig
from limbeck.methods.ressl import ReSSL
from tests.helpers.errors import raises
from tests.helpers.tiny import batch_for, tiny_vit

STEP = StepInfo(0, 10)
TINY = ReSSLConfig(hidden=12, dim=6, queue_size=12)


def ressl(config: ReSSLConfig) -> ReSSL:
    torch.manual_seed(0)
    return config.build(tiny_vit()).double()


def relation(row: Tensor, bank: Tensor, t: float) -> Tensor:
    """Return the softmax of a row's cosines with the unit rows of the bank."""
    weights = torch.stack([torch.exp(row @ b / row.norm() / t) for b in bank])
    return weights / weights.sum()


@pytest.mark.parametrize("views", ["ressl", "ressl-multicrop"])
def test_the_mean_over_strong_views_with_the_target_of_the_weak_one(views: str) -> None:
    config = dataclasses.replace(TINY, views=views)
    method, batch = ressl(config), batch_for(config, 4, torch.float64)
    with torch.no_grad():
        for parameter in method.ema_encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    *strong, weak = batch.views
    bank = method.queue["keys"].clone()
    targets = [relation(k, bank, 0.04) for k in method.ema_encoder.module(weak)]
    expected = torch.zeros((), dtype=torch.float64)
    for view in strong:
        for q, target in zip(method.head.project(method.backbone(view).final), targets, strict=True):
            expected = expected - target @ relation(q, bank, 0.1).log() / len(targets) / len(strong)

    loss = method(batch, STEP)
    torch.testing.assert_close(loss.total, expected, rtol=1e-10, atol=1e-12)
    trained = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(*(torch.autograd.grad(value, trained) for value in (loss.total, expected)), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-12)


def test_loss_gradient_and_queue_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    g = {k: torch.as_tensor(v) for k, v in golden("ressl_loss").items() if v.dtype.kind != "U"}
    method, queries = ressl(TINY), g["q_raw"].requires_grad_(True)
    method.queue["keys"].copy_(g["queue_before"].T)
    images = batch_for(TINY, 4, torch.float64)
    method.ema_forward = lambda view, ema=None: g["k_raw"]  # type: ignore[method-assign]
    step = method.encode(images)
    loss = method.pair_loss(queries, step.targets[0])
    loss.backward()
    torch.testing.assert_close(loss.detach(), g["loss"], rtol=1e-9, atol=0)
    torch.testing.assert_close(queries.grad, g["grad_q_raw"], rtol=1e-9, atol=1e-9)
    method.after_step(method(images, STEP), STEP)
    torch.testing.assert_close(method.queue["keys"], g["queue_after"].T, rtol=0, atol=1e-12)


def test_the_head_has_biases_and_no_norms() -> None:
    first, relu, last = ressl(TINY).head.projector.children()
    assert isinstance(relu, nn.ReLU)
    assert all(isinstance(layer, nn.Linear) and layer.bias is not None for layer in (first, last))


def test_views_that_do_not_suit_are_refused() -> None:
    with raises("wrong-number-of-views", "supervised", "2 to 6"):
        ReSSLConfig(views="supervised").make_views(32)


def test_a_queue_that_does_not_suit_is_refused() -> None:
    with raises("queue-too-large", "131,073", "50,000"):
        ReSSLConfig(queue_size=131_073).resolve(DataContext(num_images=50_000, batch_size=256, forward_batch_size=256))
