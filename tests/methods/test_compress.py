"""CompRess with one queue and with two: its definition and the authors' steps."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.types import DataContext, Features, TeacherOutput
from limbeck.methods.base.temperature import temperature_for
from limbeck.methods.compress import CompRess
from limbeck.methods.config.compress import CompRessConfig
from tests.helpers import distillers, laws, tiny

TINY = CompRessConfig(queue_size=48)
QUEUES = pytest.mark.parametrize("queues", [1, 2])


def compress(queues: int) -> CompRess:
    method = distillers.tiny_distiller(replace(TINY, num_queues=queues))  # type: ignore[arg-type]
    assert isinstance(method, CompRess)
    return method


def shares(row: Tensor, bank: Tensor, t: float) -> Tensor:
    """Return the softmax of a row's cosines with the bank."""
    weights = torch.stack([torch.exp(row @ b / row.norm() / t) for b in bank])
    return weights / weights.sum()


@QUEUES
def test_a_step_is_its_definition(queues: int) -> None:
    method, batch = compress(queues), tiny.batch_for(TINY, 6, torch.float64)
    (vectors,) = method.teacher(batch).vectors
    finals = method.backbone(batch.views[0]).final
    before = {name: rows.clone() for name, rows in method.queue.named_buffers()}
    parameters = dict(method.head.named_parameters())
    embeddings = finals if queues == 2 else finals @ parameters["weight"].T + parameters["bias"]
    total = torch.zeros((), dtype=torch.float64)
    for z, t in zip(embeddings, vectors, strict=True):
        p = shares(t, before["teacher"], method.temperature)
        s = shares(z, before["student" if queues == 2 else "teacher"], method.temperature)
        total = total + (p * (p / s).log()).sum() / 6

    loss = method(batch, tiny.STEP)
    distillers.same_gradients(method, loss.total, total)
    keys = method.ema_encoder.module(batch.views[0]).final if method.ema_encoder else None
    method.after_step(loss, tiny.STEP)
    torch.testing.assert_close(method.queue["teacher"], torch.cat([F.normalize(vectors, dim=1), before["teacher"][6:]]))
    if keys is not None:
        torch.testing.assert_close(
            method.queue["student"], torch.cat([F.normalize(keys, dim=1), before["student"][6:]])
        )


@QUEUES
def test_steps_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]], queues: int) -> None:
    """Four steps, with a queue that is full in the middle of a batch."""
    g = distillers.tensors(golden("compress_1q" if queues == 1 else "compress_2q_momentum"))
    sides = {"teacher": "t", "student": "s"} if queues == 2 else {"teacher": "t"}
    config = CompRessConfig(queue_size=10, num_queues=queues, temperature=float(g["T"]))  # type: ignore[arg-type]
    method = distillers.method_with(config, {name: g[f"memory_{side}_before"][0] for name, side in sides.items()})
    for step in range(4):
        student = g["student_raw"][step].requires_grad_()
        if method.ema_encoder:
            method.ema_encoder.module.forward = lambda view, step=step: Features(g["student_key_raw"][step], {}, {})
        loss = method.distillation_loss(student, distillers.EMPTY, TeacherOutput((g["teacher_raw"][step],)), tiny.STEP)
        distillers.check(loss, g["loss"][step], {student: g["grad_student_raw"][step]})
        method.after_step(loss, tiny.STEP)
        for name, side in sides.items():
            torch.testing.assert_close(method.queue[name], g[f"memory_{side}_after"][step], rtol=0, atol=1e-12)
        assert method.queue.num_enqueued % 10 == g["index_after"][step]


def test_two_queues_need_no_head() -> None:
    method = compress(2)
    assert isinstance(method.head, nn.Identity)
    assert method.queue["student"].shape == (48, 16)
    images = tiny.images(3, torch.float64)[0]
    assert torch.equal(method.embed(images), method.backbone(images).final)
    assert compress(1).queue["teacher"].shape == (48, tiny.PixelTeacher.dim)


def test_the_ema_encoder_follows() -> None:
    method = compress(2)
    assert method.ema_encoder
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(torch.randn_like(parameter))
    before = {name: p.clone() for name, p in method.ema_encoder.module.named_parameters()}
    method.after_step(method(tiny.batch_for(TINY, 6, torch.float64), tiny.STEP), tiny.STEP)
    student = dict(method.backbone.named_parameters())
    for name, now in method.ema_encoder.module.named_parameters():
        torch.testing.assert_close(now, 0.999 * before[name] + 0.001 * student[name])
    assert method.target_encoder() is method.ema_encoder.module


@QUEUES
def test_the_teacher_is_no_part_of_the_state(queues: int) -> None:
    distillers.check_teacher_is_apart(tiny.build(replace(TINY, num_queues=queues), tiny.tiny_vit()))  # type: ignore[arg-type]


def test_the_laws_hold_with_two_queues() -> None:
    config = replace(TINY, num_queues=2)
    laws.test_loss_is_a_finite_float32_scalar(config, half=True)
    laws.test_the_gradient_reaches_trained_parameters_alone(config)
    laws.test_forward_changes_nothing_and_after_step_updates_state(config)
    laws.test_the_order_of_the_images_does_not_matter(config)
    laws.test_the_configuration_survives_json(config)
    laws.test_state_dict_and_configuration_are_all_the_state(config)


def test_a_temperature_is_chosen_by_default() -> None:
    sample = torch.randn(40, 6)
    chosen = CompRessConfig().with_teacher_defaults(sample).temperature
    assert chosen == temperature_for(sample)
    assert compress(1).temperature == temperature_for(tiny.PixelTeacher(TINY).sample)
    assert CompRessConfig(temperature=0.04).with_teacher_defaults(sample) == CompRessConfig(temperature=0.04)


def test_the_queue_is_at_most_half_of_the_store() -> None:
    assert (
        CompRessConfig().resolve(DataContext(num_images=100_000, batch_size=256, forward_batch_size=256)).queue_size
        == 50_000
    )
    assert (
        CompRessConfig().resolve(DataContext(num_images=1_000_000, batch_size=256, forward_batch_size=256)).queue_size
        == 128_000
    )
