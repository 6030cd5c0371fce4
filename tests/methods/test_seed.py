"""SEED: its definition, the authors' steps, and its limit InfoNCE for a cold teacher."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.types import TeacherOutput
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base.temperature import temperature_for
from limbeck.methods.config.seed import SEEDConfig
from limbeck.methods.seed import SEED
from tests.helpers import distillers, laws, tiny

TINY = SEEDConfig(queue_size=48)


def seed(crops: int = 0) -> SEED:
    method = distillers.tiny_distiller(replace(TINY, num_local_crops=crops, temperature=0.3))
    assert isinstance(method, SEED)
    return method


def shares(row: Tensor, positive: Tensor, bank: Tensor, t: float) -> Tensor:
    """Return the softmax of cosines with the teacher's vector of the same view, then with the bank."""
    weights = torch.stack([torch.exp(F.cosine_similarity(row, c, dim=0) / t) for c in (positive, *bank)])
    return weights / weights.sum()


def slow_loss(method: SEED, view: Tensor, vectors: Tensor, bank: Tensor) -> Tensor:
    state = dict(method.head.named_parameters())
    hidden = (method.backbone(view).final @ state["0.weight"].T + state["0.bias"]).clamp(min=0)
    total = torch.zeros((), dtype=torch.float64)
    assert method.cfg.teacher_temperature
    for z, t in zip(hidden @ state["2.weight"].T + state["2.bias"], vectors, strict=True):
        wanted, found = shares(t, t, bank, method.cfg.teacher_temperature), shares(z, t, bank, 0.3)
        total = total - (wanted * found.log()).sum()
    return total / len(vectors)


def test_a_step_is_its_definition() -> None:
    method, batch = seed(), tiny.batch_for(TINY, 6, torch.float64)
    (vectors,) = method.teacher(batch).vectors
    before = method.queue["teacher"].clone()
    loss = method(batch, tiny.STEP)
    distillers.same_gradients(method, loss.total, slow_loss(method, batch.views[0], vectors, before))
    method.after_step(loss, tiny.STEP)
    torch.testing.assert_close(method.queue["teacher"], torch.cat([F.normalize(vectors, dim=1), before[6:]]))


def test_local_crops_have_a_queue_of_their_own() -> None:
    """The losses are summed; the rows of all crops are one batch, and the first crop alone is enqueued."""
    method, batch = seed(crops=3), tiny.batch_for(replace(TINY, num_local_crops=3), 5, torch.float64)
    whole, *crops = method.teacher(batch).vectors
    method.queue["local"].copy_(torch.randn(48, tiny.PixelTeacher.dim))  # the queues start equal
    method.queue["local"].div_(method.queue["local"].norm(dim=1, keepdim=True))
    large, local = method.queue["teacher"].clone(), method.queue["local"].clone()
    slow = slow_loss(method, batch.views[0], whole, large)
    slow_local = slow_loss(method, torch.cat(batch.views[1:4]), torch.cat(crops), local)
    loss = method(batch, tiny.STEP)
    distillers.same_gradients(method, loss.total, slow + slow_local)
    torch.testing.assert_close((loss.terms["whole"], loss.terms["local"]), (slow.detach(), slow_local.detach()))
    method.after_step(loss, tiny.STEP)
    torch.testing.assert_close(method.queue["teacher"], torch.cat([F.normalize(whole, dim=1), large[5:]]))
    torch.testing.assert_close(method.queue["local"], torch.cat([F.normalize(crops[0], dim=1), local[5:]]))


def test_local_crops_are_those_of_swav_for_student_and_teacher() -> None:
    views = SEEDConfig(num_local_crops=6).make_views(224)
    assert [view.augmentation.size for view in views[:7]] == [224] + [96] * 6
    assert [view.augmentation.scale for view in views[:7]] == [(0.2, 1.0)] + [(0.05, 0.14)] * 6
    assert views[7:] == tuple(replace(view, network="teacher", crop_of=index) for index, view in enumerate(views[:7]))


def test_steps_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    g = distillers.tensors(golden("seed_t0.2_temp0.07"))
    config = SEEDConfig(queue_size=10, temperature=float(g["t_student"]), teacher_temperature=float(g["t_teacher"]))
    method = distillers.method_with(config, {"teacher": g["queue_before"][0].T})
    for step in range(3):
        student = g["student_raw"][step].requires_grad_()
        loss = method.distillation_loss(student, distillers.EMPTY, TeacherOutput((g["teacher_raw"][step],)), tiny.STEP)
        distillers.check(loss, g["loss"][step], {student: g["grad_student_raw"][step]})
        method.after_step(loss, tiny.STEP)
        torch.testing.assert_close(method.queue["teacher"], g["queue_after"][step].T, rtol=0, atol=1e-12)


def test_a_teacher_temperature_near_zero_makes_it_infonce() -> None:
    """The positive is the teacher's vector of the same view."""
    bank = F.normalize(torch.randn(10, 8, dtype=torch.float64), dim=1)
    method = distillers.method_with(
        SEEDConfig(queue_size=10, temperature=0.2, teacher_temperature=1e-4), {"teacher": bank}
    )
    student = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(5, 8, dtype=torch.float64)
    loss = method.distillation_loss(student, distillers.EMPTY, TeacherOutput((vectors,)), tiny.STEP).total
    expected = info_nce(student, bank, vectors, 0.2)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(loss, student), torch.autograd.grad(expected, student))


def test_half_precision_does_not_round_the_targets() -> None:
    """At the authors' temperature of 1e-4 bfloat16 would make ties of all cosines above 0.998."""
    vectors = F.normalize(torch.randn(1, 8), dim=1)
    near = F.normalize(vectors + 0.01 * torch.randn(10, 8), dim=1)
    method = distillers.method_with(
        SEEDConfig(queue_size=10, temperature=0.2, teacher_temperature=1e-4), {"teacher": near}
    ).float()
    student = torch.randn(1, 8)
    plain = method.distillation_loss(student, distillers.EMPTY, TeacherOutput((vectors,)), tiny.STEP).total
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(
            method.distillation_loss(student, distillers.EMPTY, TeacherOutput((vectors,)), tiny.STEP).total, plain
        )


@pytest.mark.parametrize("crops", [0, 2])
def test_the_teacher_is_no_part_of_the_state(crops: int) -> None:
    distillers.check_teacher_is_apart(tiny.build(replace(TINY, num_local_crops=crops), tiny.tiny_vit()))


def test_the_laws_hold_with_local_crops() -> None:
    config = replace(TINY, num_local_crops=2)
    laws.test_loss_is_a_finite_float32_scalar(config, half=True)
    laws.test_forward_changes_nothing_and_after_step_updates_state(config)
    laws.test_the_order_of_the_images_does_not_matter(config)
    laws.test_state_dict_and_configuration_are_all_the_state(config)


def test_the_dense_term_adds_no_view() -> None:
    config = SEEDConfig(num_local_crops=1)
    assert config.make_views(16) == replace(config, dense_weight=1.0).make_views(16)
    assert tiny.build(replace(TINY, dense_weight=1.0), tiny.tiny_vit())(
        tiny.batch_for(TINY), tiny.STEP
    ).total.isfinite()


def test_temperatures_are_chosen_by_default() -> None:
    sample = torch.randn(40, 6)
    chosen = temperature_for(sample)
    given = [(None, None), (None, 0.01), (0.2, None), (0.2, 0.01)]
    filled = [SEEDConfig(temperature=a, teacher_temperature=b).with_teacher_defaults(sample) for a, b in given]
    wanted = [(chosen, chosen), (chosen, 0.01), (0.2, chosen), (0.2, 0.01)]
    assert [(config.temperature, config.teacher_temperature) for config in filled] == wanted
