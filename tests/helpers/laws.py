"""The laws that every method obeys; tests/conformance applies them to every file in limbeck/methods."""

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.config import from_json, to_json
from limbeck.core.types import Batch, LossOutput, StepInfo
from limbeck.methods import Method, MethodConfig
from limbeck.models.ema import EMA
from limbeck.models.queue import Queue
from tests.helpers import tiny
from tests.helpers.tiny import COUNT, batch_for

STEP = StepInfo(step=3, total_steps=10)


def build(config: MethodConfig, dtype: torch.dtype = torch.float32) -> Method:
    torch.manual_seed(0)
    return tiny.build(config, tiny.encoder_for(config)).to(dtype)


def seeded_loss(method: Method, batch: Batch) -> LossOutput:
    """Compute a loss with random numbers that follow from the step, as in the training loop."""
    torch.manual_seed(STEP.step)
    loss: LossOutput = method(batch, STEP)
    return loss


def without_batchnorm_statistics(method: Method) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in method.state_dict().items() if "running_" not in k and "num_batches" not in k}


@pytest.mark.parametrize("half", [False, True])
def test_loss_is_a_finite_float32_scalar(config: MethodConfig, half: bool) -> None:
    method = build(config)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = method(batch_for(config), STEP)
    assert loss.total.shape == ()
    assert loss.total.dtype is torch.float32
    assert loss.total.isfinite()
    assert all(not term.requires_grad for term in loss.terms.values())


def test_the_gradient_reaches_trained_parameters_alone(config: MethodConfig) -> None:
    method = build(config)
    method(batch_for(config), STEP).total.backward()
    on_series, on_keypoints = tiny.on_series(config), tiny.on_keypoints(config)
    first = "blocks.0.conv1" if on_series else "blocks.0.main.0" if on_keypoints else "model.blocks.0.attn.qkv"
    first_block = method.backbone.get_parameter(f"{first}.weight")
    assert first_block.grad is not None
    assert first_block.grad.abs().sum() > 0
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_forward_changes_nothing_and_after_step_updates_state(config: MethodConfig) -> None:
    method = build(config)
    before = without_batchnorm_statistics(method)
    loss = method(batch_for(config), STEP)
    after = without_batchnorm_statistics(method)
    assert all(torch.equal(before[k], after[k]) for k in before)

    loss.total.backward()
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)
    trained = {name for name, p in method.named_parameters() if p.requires_grad}
    before = without_batchnorm_statistics(method)
    method.after_step(loss, STEP)
    after = without_batchnorm_statistics(method)
    for key in trained:  # rows may be normalized again, but their direction never changes
        changed = not torch.equal(before[key], after[key])
        torch.testing.assert_close(*(F.normalize(x[key], dim=-1) if changed else x[key] for x in (before, after)))
    for name, module in method.named_modules():
        if isinstance(module, EMA | Queue):
            inner = [key for key in before if key.startswith(f"{name}.")]
            assert any(not torch.equal(before[key], after[key]) for key in inner), f"{name} does not change"


def test_the_order_of_the_images_does_not_matter(config: MethodConfig) -> None:
    method = build(config, torch.float64)
    straight, order = batch_for(config, dtype=torch.float64), torch.randperm(COUNT)
    shuffled = tiny.part(straight, order)
    total = seeded_loss(method, straight).total
    torch.testing.assert_close(seeded_loss(method, shuffled).total, total, rtol=1e-10, atol=1e-12)


def test_the_configuration_survives_json(config: MethodConfig) -> None:
    kind: Any = MethodConfig  # abstract: the name in the JSON decides
    assert from_json(kind, json.loads(json.dumps(to_json(config)))) == config


def test_state_dict_and_configuration_are_all_the_state(config: MethodConfig) -> None:
    """A method rebuilt from its configuration and its state_dict gives the same loss and gradients, bit for bit."""
    method = build(config)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.01 * torch.randn_like(p))
    rebuilt = tiny.build(config, tiny.encoder_for(config))
    rebuilt.load_state_dict(method.state_dict())
    losses = [seeded_loss(m, batch_for(config)).total for m in (method, rebuilt)]
    assert torch.equal(*losses)
    gradients = [torch.autograd.grad(loss, _trained(m)) for loss, m in zip(losses, (method, rebuilt), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_embeddings_pass_through_the_heads(config: MethodConfig) -> None:
    """`embed`, where a collapse is measured, depends on parameters that are discarded after training."""
    if tiny.on_keypoints(config):
        pytest.skip("the keypoints, from which the decoder paints, are the features themselves")
    method = build(config)
    heads = [p for name, p in method.named_parameters() if p.requires_grad and "backbone." not in name]
    embedded = method.embed(batch_for(config).views[0])
    assert embedded.shape[0] == COUNT
    grads = torch.autograd.grad(embedded.square().sum(), heads, allow_unused=True)
    assert any(grad is not None for grad in grads)


def test_the_card_is_complete(config: MethodConfig) -> None:
    assert all((config.card.summary, config.card.state, config.card.use_when))
    assert config.card.cost >= 1


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]
