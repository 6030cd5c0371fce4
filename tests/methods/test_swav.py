"""SwAV: codes over batch and queue, prototypes of unit length, scopes of BatchNorm."""

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.types import Batch, DataContext, LossOutput, StepInfo
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.methods.config.swav import SwAVConfig
from limbeck.methods.swav import SwAV
from limbeck.train.config import OptimConfig
from limbeck.train.optim import build_optimizer
from tests.helpers.errors import raises
from tests.helpers.loss_loops import prediction_loops, sinkhorn_loops
from tests.helpers.tiny import tiny_vit, views_of

STEP = StepInfo(3, 10)
CONTEXT = DataContext(num_images=100, batch_size=8, forward_batch_size=8)


def config(**changes: Any) -> SwAVConfig:
    return dataclasses.replace(SwAVConfig(hidden=12, dim=8, num_prototypes=5, freeze_steps=0), **changes)


def swav(**changes: int) -> SwAV:
    torch.manual_seed(0)
    return config(**changes).build(tiny_vit()).double()


def batch(count: int = 4, seed: int = 0) -> Batch:
    """Two large crops and two small ones."""
    return Batch(views_of(count, [16, 16, 8, 8], torch.float64, seed), torch.arange(count))


def fill(method: SwAV) -> None:
    assert method.queue is not None
    rows = F.normalize(torch.randn(method.queue.rows, 8, dtype=torch.float64))
    method.queue.enqueue({"first": rows, "second": rows.flip(1)})


@pytest.mark.parametrize("queue", [0, 8])
def test_equals_its_definition(queue: int) -> None:
    """The codes of the two large crops are predicted from the three other crops, grouped as by the authors."""
    method, views = swav(queue_size=queue), batch().views
    if queue:
        fill(method)
    sizes = (torch.cat(views[:2]), torch.cat(views[2:]))
    z = method.head.project(torch.cat([method.backbone(size).final for size in sizes])).split(4)
    scores = torch.stack([F.normalize(view) @ method.prototypes.T for view in z])
    codes = []
    for view, name in zip(scores, ("first", "second"), strict=False):
        earlier = method.queue[name] @ method.prototypes.T if method.queue is not None else view[:0]
        codes.append(sinkhorn_loops(torch.cat([earlier, view]).detach(), 0.05, 3)[-4:])
    expected = prediction_loops(scores, torch.stack(codes), 0.1)
    total = method(batch(), STEP).total
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)
    trained = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(torch.autograd.grad(total, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-11)


def test_the_queue_counts_once_it_is_full() -> None:
    plain, queued = swav(), swav(queue_size=8)
    queued.load_state_dict(plain.state_dict(), strict=False)
    without = plain(batch(), STEP).total
    for batches in range(3):
        loss = queued(batch(), STEP)
        assert math.isclose(loss.total.item(), without.item(), rel_tol=1e-6) == (batches < 2)
        queued.after_step(queued(batch(seed=1), STEP), STEP)


def test_the_queue_begins_to_fill_after_its_delay() -> None:
    method = swav(queue_size=8, queue_delay_steps=3)
    assert method.queue is not None
    for step in range(5):
        method.after_step(method(batch(), StepInfo(step, 10)), StepInfo(step, 10))
        assert int(method.queue.num_enqueued) == 4 * max(0, step - 2)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_frozen_prototypes_have_a_zero_gradient_and_survive_weight_decay(name: str) -> None:
    method = swav(freeze_steps=3)
    start = method.prototypes.detach().clone()
    optimizer = build_optimizer(method, OptimConfig(name=name, lr=0.1, weight_decay=0.5))  # type: ignore[arg-type]
    for step in range(5):
        optimizer.zero_grad()
        loss: LossOutput = method(batch(), StepInfo(step, 10))
        loss.total.backward()
        assert method.prototypes.grad is not None
        assert bool(method.prototypes.grad.any()) == (step >= 3)
        optimizer.step()
        method.after_step(loss, StepInfo(step, 10))
        moved = (method.prototypes - start).abs().max().item()
        assert moved < 1e-6 if step < 3 else moved > 1e-5
        torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_layers_that_learn_from_the_last_one_do_not_train_the_prototypes() -> None:
    torch.manual_seed(0)
    method = SDSSLConfig(host=config(), hidden=12, alpha=1.0, alpha_schedule="constant").build(tiny_vit()).double()
    host = method.host
    assert isinstance(host, SwAV)
    (both,) = torch.autograd.grad(method(batch(), STEP).total, [host.prototypes])
    (alone,) = torch.autograd.grad(host(batch(), STEP).total, [host.prototypes])
    torch.testing.assert_close(both, alone, rtol=1e-12, atol=1e-14)


def test_crops_of_one_size_share_a_pass_and_all_share_the_head() -> None:
    method = swav()
    seen: list[Tensor] = []
    for module in (method.backbone.get_submodule("model"), method.head.projector):
        module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    method(batch(), STEP)
    assert [tuple(x.shape) for x in seen] == [(8, 3, 16, 16), (8, 3, 8, 8), (16, 16)]


def test_prototypes_are_frozen_for_an_epoch_and_no_more_than_a_tenth_of_the_run() -> None:
    default = config(freeze_steps=None)
    assert default.resolve(CONTEXT).freeze_steps == 100 // 8
    assert default.resolve(CONTEXT._replace(total_steps=57)).freeze_steps == 5
    assert config(freeze_steps=56).resolve(CONTEXT._replace(total_steps=57)).freeze_steps == 56
    with raises("freeze-steps-too-many", 57, 5):
        config(freeze_steps=57).resolve(CONTEXT._replace(total_steps=57))


def test_invalid_options_are_refused() -> None:
    with raises("too-few-prototypes", 1, 2):
        config(num_prototypes=1).resolve(CONTEXT)
    with raises("queue-too-large", 101, 100):
        config(queue_size=101).resolve(CONTEXT)
    with raises("queue-too-small", 7, 8):
        config(queue_size=7).resolve(CONTEXT)
    with raises("wrong-number-of-views", "supervised", "2 to 10"):
        dataclasses.replace(config(), views="supervised").make_views(16)
    assert config(queue_size=100).resolve(CONTEXT).queue_size == 100
