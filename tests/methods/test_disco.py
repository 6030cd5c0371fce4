"""DisCo: its definition, the authors' steps, and halves of a batch."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.types import Batch, TeacherOutput
from limbeck.methods.config.disco import DisCoConfig
from limbeck.methods.disco import DisCo
from tests.helpers import distillers, tiny

TINY = DisCoConfig(queue_size=48, hidden=12)


def disco(config: DisCoConfig = TINY) -> DisCo:
    method = distillers.tiny_distiller(config)
    assert isinstance(method, DisCo)
    with torch.no_grad():
        for parameter in method.ema_encoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return method


def embeddings(backbone: torch.nn.Module, head: torch.nn.Module, view: Tensor) -> list[Tensor]:
    """Return the unit rows after two linear layers."""
    state = dict(head.named_parameters())
    hidden = (backbone(view).final @ state["0.weight"].T + state["0.bias"]).clamp(min=0)
    return [z / z.norm() for z in hidden @ state["2.weight"].T + state["2.bias"]]


def test_a_step_is_its_definition() -> None:
    method, batch = disco(), tiny.batch_for(TINY, 5, torch.float64)
    wanted = [F.normalize(vectors, dim=1) for vectors in method.teacher(batch).vectors]
    students = [embeddings(method.backbone, method.head, view) for view in batch.views[:2]]
    ema = method.ema_encoder.module
    keys, bank = embeddings(ema.backbone, ema.projector, batch.views[1]), method.queue["keys"].clone()
    contrast, distance = (torch.zeros((), dtype=torch.float64) for _ in range(2))
    for z, key in zip(students[0], keys, strict=True):
        found = torch.exp(z @ key / 0.2)
        contrast = contrast - torch.log(found / (found + sum(torch.exp(z @ b / 0.2) for b in bank))) / 5
    for view, vectors in zip(students, wanted, strict=True):
        distance = distance + sum((z - t).square().sum() for z, t in zip(view, vectors, strict=True)) / 5

    loss = method(batch, tiny.STEP)
    distillers.same_gradients(method, loss.total, contrast + 32 * distance)
    torch.testing.assert_close((loss.terms["contrast"], loss.terms["distance"]), (contrast.detach(), distance.detach()))
    method.after_step(loss, tiny.STEP)
    torch.testing.assert_close(method.queue["keys"], torch.cat([torch.stack(keys), bank[5:]]))


def test_steps_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    """The authors sum the distances over the six images: a weight of six."""
    g = distillers.tensors(golden("disco_loss"))
    method = distillers.method_with(
        DisCoConfig(queue_size=12, hidden=4, distance_weight=6.0), {"keys": g["queue_before"][0].T}
    )
    for step in range(2):
        first, second = (g[name][step].requires_grad_() for name in ("s1_raw", "s2_raw"))
        method.embed = lambda images, second=second: second
        method.ema_encoder.module.forward = lambda view, step=step: g["k2_raw"][step]
        output = TeacherOutput((g["t1_raw"][step], g["t2_raw"][step]))
        loss = method.distillation_loss(first, distillers.EMPTY, output, tiny.STEP)
        distillers.check(loss, g["loss"][step], {first: g["grad_s1_raw"][step], second: g["grad_s2_raw"][step]})
        torch.testing.assert_close(loss.terms["contrast"], g["loss_co"][step], rtol=0, atol=1e-10)
        distance = g["loss_mse1"][step] + g["loss_mse2"][step]
        torch.testing.assert_close(loss.terms["distance"] * 6, distance, rtol=0, atol=1e-10)
        method.after_step(loss, tiny.STEP)
        torch.testing.assert_close(method.queue["keys"], g["queue_after"][step].T, rtol=0, atol=1e-12)


def test_a_split_batch_gives_the_same_loss() -> None:
    """The weight of the distance does not depend on the number of processes that share a batch."""
    method, batch = disco(), tiny.batch_for(TINY, 8, torch.float64)
    halves = [Batch(tuple(view.chunk(2)[i] for view in batch.views), batch.indices.chunk(2)[i]) for i in (0, 1)]
    whole = method(batch, tiny.STEP).total
    torch.testing.assert_close(sum(method(half, tiny.STEP).total for half in halves) / 2, whole)


def test_the_ema_encoder_follows_backbone_and_head() -> None:
    method, batch = disco(), tiny.batch_for(TINY, 5, torch.float64)
    before = {name: p.clone() for name, p in method.ema_encoder.module.named_parameters()}
    student = {f"backbone.{n}": p for n, p in method.backbone.named_parameters()}
    student |= {f"projector.{n}": p for n, p in method.head.named_parameters()}
    method.after_step(method(batch, tiny.STEP), tiny.STEP)
    for name, now in method.ema_encoder.module.named_parameters():
        torch.testing.assert_close(now, 0.999 * before[name] + 0.001 * student[name])
    assert method.target_encoder() is method.ema_encoder.module.backbone


def test_student_and_teacher_get_both_views() -> None:
    views = DisCoConfig().make_views(32)
    assert views[2:] == tuple(replace(view, network="teacher", crop_of=index) for index, view in enumerate(views[:2]))


def test_the_teacher_is_no_part_of_the_state() -> None:
    distillers.check_teacher_is_apart(tiny.build(TINY, tiny.tiny_vit()))
