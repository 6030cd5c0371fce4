"""MoCo v2: its definition over several steps with queue and EMA encoder, invalid options."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from limbeck.core.types import Batch, StepInfo
from limbeck.methods.config.mocov2 import MoCoV2Config
from limbeck.methods.mocov2 import MoCoV2
from tests.helpers.errors import raises
from tests.helpers.loops import cos
from tests.helpers.tiny import CONTEXT, Flat, batch, tiny_vit

QUEUE, TAU, MOMENTUM = 12, 0.2, 0.999


def mocov2() -> MoCoV2:
    torch.manual_seed(0)
    return MoCoV2Config(hidden=12, dim=8, queue_size=QUEUE).build(tiny_vit()).double()


def by_definition(method: MoCoV2, views: tuple[Tensor, ...], queue: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the loss of a step, image by image, and the keys; heads without BatchNorm do not mix rows."""
    total, keys = torch.zeros((), dtype=torch.float64), []
    for first, second in zip(*views, strict=True):
        q = method.head.project(method.backbone(first[None]).final)[0]
        k = method.ema_encoder.module(second[None])[0].detach()
        sums = [torch.exp(cos(q, c) / TAU) for c in [k, *queue]]
        total = total - torch.log(sums[0] / sum(sums)) / len(views[0])
        keys.append(k / k.norm())
    return total, keys


def test_three_steps_equal_the_definition() -> None:
    """Batches of 5 wrap around in a queue of 12."""
    method = mocov2()
    queue = list(method.bank().clone())
    student = {k: p for k, p in method.named_parameters() if p.requires_grad}
    for step in range(3):
        now = batch(5, torch.float64, seed=step)
        expected, keys = by_definition(method, now.views, queue)
        loss = method(now, StepInfo(step, 3))
        torch.testing.assert_close(loss.total, expected, rtol=1e-10, atol=1e-12)
        grads, wanted = (torch.autograd.grad(x, tuple(student.values())) for x in (loss.total, expected))
        for a, b in zip(grads, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)

        before = copy.deepcopy(method.ema_encoder.module)
        with torch.no_grad():
            for parameter, grad in zip(student.values(), grads, strict=True):
                parameter.sub_(0.1 * grad)
        method.after_step(loss, StepInfo(step, 3))
        for place, key in enumerate(keys, start=5 * step):
            queue[place % QUEUE] = key
        torch.testing.assert_close(method.bank(), torch.stack(queue), rtol=1e-12, atol=1e-12)
        for (name, new), old in zip(method.ema_encoder.module.named_parameters(), before.parameters(), strict=True):
            trained = method.get_parameter(name if name.startswith("backbone") else f"head.{name}")
            torch.testing.assert_close(new, MOMENTUM * old + (1 - MOMENTUM) * trained, rtol=1e-12, atol=1e-14)


def test_other_images_of_the_batch_are_no_negatives() -> None:
    """With five copies of one image, the loss could not reach 0 if the batch were among the candidates."""
    method = MoCoV2Config(hidden=12, dim=8, queue_size=QUEUE).build(Flat(nn.Identity(), 8))
    method.head.projector = method.ema_encoder.module.projector = nn.Identity()
    method.queue["keys"].copy_(-torch.ones(QUEUE, 8))
    copies = torch.ones(5, 8)
    assert method(Batch((copies, copies), torch.arange(5)), StepInfo(0, 1)).total < 1e-3


def test_the_head_is_that_of_the_authors() -> None:
    kinds = [type(layer) for layer in mocov2().head.projector.children()]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(p.requires_grad for n, p in mocov2().named_parameters() if n.startswith("head") and "bias" in n)


def test_the_student_is_evaluated() -> None:
    method = mocov2()
    assert method.encoder() is method.backbone


def test_the_default_queue_is_half_of_a_small_store_and_no_less_than_a_batch() -> None:
    assert MoCoV2Config().resolve(CONTEXT).queue_size == 125
    assert MoCoV2Config().resolve(CONTEXT._replace(batch_size=200, forward_batch_size=200)).queue_size == 200
    assert MoCoV2Config().resolve(CONTEXT._replace(num_images=10**6)).queue_size == 65536


def test_a_queue_that_does_not_suit_the_data_is_refused() -> None:
    assert MoCoV2Config(queue_size=CONTEXT.num_images).resolve(CONTEXT).queue_size == CONTEXT.num_images
    with raises("queue-too-large", 251, 250):
        MoCoV2Config(queue_size=251).resolve(CONTEXT)
    with raises("queue-too-small", 23, 24):
        MoCoV2Config(queue_size=23).resolve(CONTEXT)
    with raises("wrong-number-of-views", "multicrop", "mocov2 needs 2"):
        replace(MoCoV2Config(), views="multicrop").make_views(32)
