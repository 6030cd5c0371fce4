"""A whole training step of hosts, and of SDSSL over them, against float64 loops: loss, gradients, AdamW, EMA."""

import dataclasses
from typing import Any

import pytest
import torch

from limbeck.core.types import StepInfo
from limbeck.methods import Method, MethodConfig
from limbeck.methods.base import SymmetricEMAHost
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.methods.sdssl import SDSSL
from limbeck.train.config import OptimConfig
from limbeck.train.optim import build_optimizer
from tests.helpers import loops
from tests.helpers.steps import PAIR_LOSSES, Reference
from tests.helpers.tiny import batch, configs, images, tiny_vit

STEP = StepInfo(step=7, total_steps=20)
LR, DECAY = 1e-3, 0.1


def jittered(config: MethodConfig) -> Method:
    """Return a method in float64 with nontrivial norms, biases, tokens and EMA encoder."""
    torch.manual_seed(0)
    method = config.build(tiny_vit(depth=4)).double()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return method


def sdssl(host: str, **changes: Any) -> SDSSL:
    """Return SDSSL over a host, with other options than in `configs`."""
    config = configs()[f"sdssl-{host}"]
    assert isinstance(config, SDSSLConfig)
    method = jittered(dataclasses.replace(config, **changes))
    assert isinstance(method, SDSSL)
    return method


def reference_of(method: Method) -> Reference:
    if not isinstance(method, SDSSL):
        return Reference(method, [], 0.0, 0.0)
    alpha = loops.rise(1.0 if method.host.cfg.name == "mocov3" else 0.8, STEP.step, STEP.total_steps)
    return Reference(method, [1, 2, 3], alpha, 1.0)


@pytest.mark.parametrize("name", [*PAIR_LOSSES, *(f"sdssl-{host}" for host in PAIR_LOSSES)])
def test_a_whole_step_equals_the_loops(name: str) -> None:
    method = jittered(configs()[name])
    reference = reference_of(method)
    views = images(dtype=torch.float64)

    loss = method(batch(dtype=torch.float64), STEP)
    expected = reference.loss(views)
    torch.testing.assert_close(loss.total, expected, rtol=1e-9, atol=1e-12)

    loss.total.backward()
    expected.backward()
    wanted = dict(reference.method.named_parameters())
    gradients = {key: p.grad for key, p in wanted.items() if p.grad is not None}
    before = {k: p.detach().clone() for k, p in method.named_parameters()}
    for key, parameter in method.named_parameters():
        assert (parameter.grad is None) == (wanted[key].grad is None), key
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, wanted[key].grad, rtol=1e-7, atol=1e-11, msg=key)

    optimizer = build_optimizer(method, OptimConfig(lr=LR, weight_decay=DECAY))
    optimizer.step()
    method.after_step(loss, STEP)
    for key, parameter in method.named_parameters():
        if parameter.grad is not None:
            decay = DECAY if parameter.dim() > 1 else 0.0
            stepped = loops.adamw(before[key], gradients[key], LR, decay)
            torch.testing.assert_close(parameter.detach(), stepped, rtol=1e-7, atol=1e-9, msg=key)
    check_ema_encoder(method, before)


def check_ema_encoder(method: Method, before: dict[str, torch.Tensor]) -> None:
    host = method.host if isinstance(method, SDSSL) else method
    if not isinstance(host, SymmetricEMAHost):
        return
    left = STEP.total_steps - STEP.step  # a half-cosine read backwards
    momentum = 1 - loops.rise(1 - 0.996, left, STEP.total_steps)
    prefix = "host." if isinstance(method, SDSSL) else ""
    averages, student = dict(host.ema_encoder.module.named_parameters()), dict(host.named_parameters())
    for key, value in averages.items():
        source = student[key if key.startswith("backbone") else f"head.{key}"].detach()
        expected = momentum * before[f"{prefix}ema_encoder.module.{key}"] + (1 - momentum) * source
        torch.testing.assert_close(value.detach(), expected, rtol=1e-9, atol=1e-12, msg=key)


@pytest.mark.parametrize("host", PAIR_LOSSES)
def test_without_alpha_and_predictor_loss_sdssl_is_its_host(host: str) -> None:
    method = sdssl(host, alpha=0.0, predictor_weight=0.0)
    alone = method.host(batch(dtype=torch.float64), STEP).total
    total = method(batch(dtype=torch.float64), STEP).total
    torch.testing.assert_close(total, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("host", ["byol", "mocov3"])
def test_predictor_loss_only_rescales_the_gradients_of_predictors(host: str) -> None:
    """The factor is (1 + a) / a with a = alpha / L for the layers, 2 for the last one, 1 for everything else."""
    grads = {}
    for weight in (0.0, 1.0):
        method = sdssl(host, predictor_weight=weight)
        method(batch(dtype=torch.float64), STEP).total.backward()
        grads[weight] = {k: p.grad for k, p in method.named_parameters() if p.grad is not None}
    a = method.alpha(STEP) / 3
    for key, grad in grads[0.0].items():
        scale = 1.0 if "predictor" not in key else 2.0 if key.startswith("host.") else (1 + a) / a
        torch.testing.assert_close(grads[1.0][key], scale * grad, rtol=1e-8, atol=1e-12, msg=key)


def test_without_layers_the_predictor_is_trained_twice() -> None:
    method = sdssl("byol", layers=())
    total = method(batch(dtype=torch.float64), STEP).total
    torch.testing.assert_close(total, 2 * method.host(batch(dtype=torch.float64), STEP).total, rtol=1e-12, atol=0)
