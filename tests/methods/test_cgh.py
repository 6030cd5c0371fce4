"""What CGH alone decides: crossed targets, the warm-up, aligned queues, which crop sees what; the authors' numbers."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, LossOutput, StepInfo
from limbeck.methods import HostConfig
from limbeck.methods.cgh import CGH, CGHConfig
from limbeck.models.backbone import Backbone, BackboneConfig, build_backbone
from tests.helpers.tiny import batch_for, tiny_vit

TINY = CGHConfig(hidden=12, dim=6, queue=16)
START, QUARTER, LATER = StepInfo(0, 1600), StepInfo(10, 1600), StepInfo(800, 1600)  # the warm-up takes 40 of 1600 steps
EVERY = pytest.mark.parametrize("network", ["resnet", "vit"])


def small_resnet() -> Backbone:
    args = {"channels": [4, 6, 8, 10], "layers": [1, 1, 1, 1]}
    return build_backbone(BackboneConfig(name="resnet18", image_size=32, args=args))


def cgh(network: str = "vit", config: CGHConfig = TINY) -> CGH:
    torch.manual_seed(0)
    method = config.build(small_resnet() if network == "resnet" else tiny_vit()).double()
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for stream in ("last", "hyper"):  # unit rows of float32 are not unit rows of float64
        method.queue[stream].copy_(normalize(method.queue[stream], dim=1))
    return method


def images(views: int, count: int = 4) -> Batch:
    return Batch(tuple(torch.randn(views, count, 3, 16, 16, dtype=torch.float64)), torch.arange(count))


def relation(row: Tensor, bank: Tensor, t: float) -> Tensor:
    """Of one row: the exponentials of its cosines with the unit rows of the bank, divided by their sum."""
    weights = torch.stack([torch.exp(row @ b / row.norm() / t) for b in bank])
    return weights / weights.sum()


def relate(rows: Tensor, bank: Tensor, t: float, others: Tensor, other_bank: Tensor, other_t: float) -> Tensor:
    pairs = zip(rows, others, strict=True)
    losses = [-relation(o, other_bank, other_t) @ relation(r, bank, t).log() for r, o in pairs]
    return torch.stack(losses).mean()


def contrast(rows: Tensor, keys: Tensor, bank: Tensor, t: float = 0.2) -> Tensor:
    losses = []
    for row, key in zip(rows, keys, strict=True):
        own = torch.exp(row @ key / row.norm() / key.norm() / t)
        losses.append(-torch.log(own / (own + sum(torch.exp(row @ b / row.norm() / t) for b in bank))))
    return torch.stack(losses).mean()


@EVERY
@pytest.mark.parametrize(("step_info", "a"), [(START, 0.0), (QUARTER, 0.25), (LATER, 1.0)])
@pytest.mark.parametrize("views", [2, 4])
def test_equals_its_definition(network: str, step_info: StepInfo, a: float, views: int) -> None:
    method, batch = cgh(network), images(views)
    first, *further, weak = batch.views
    (last, hyper), (k_last, k_hyper) = method.student(first), method.teacher.module(weak)
    of_last, of_hyper = method.queue["last"], method.queue["hyper"]
    crops = [last, *(method.student.last(method.backbone(view).final) for view in further)]
    to_hyper = relate(hyper, of_hyper, 0.08, k_last, of_last, 0.04)
    to_last = sum(relate(crop, of_last, 0.1, k_hyper, of_hyper, 0.08) for crop in crops) / len(crops)
    warm = contrast(last, k_last, of_last) + contrast(hyper, k_hyper, of_hyper)
    expected = a / 2 * (to_hyper + to_last) + (1 - a) * warm

    loss = method(batch, step_info)
    torch.testing.assert_close(loss.total, expected, rtol=1e-8, atol=1e-10)
    assert ("contrast" in loss.terms) == (a < 1)
    learnt = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(*(torch.autograd.grad(value, learnt) for value in (loss.total, expected)), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-6, atol=1e-9)


def answering(g: dict[str, Tensor]) -> CGH:
    """The method with the authors' queues, whose networks answer with the authors' embeddings."""
    method = cgh(config=dataclasses.replace(TINY, queue=16))
    method.queue.register_buffer("last", g["queue_global"].T.contiguous())
    method.queue.register_buffer("hyper", g["queue_hyper"].T.contiguous())
    method.teacher.module.forward = lambda view: (g["k_raw"], g["kh_raw"])  # type: ignore[method-assign]
    method.student.forward = lambda view: (g["q_raw"], g["qh_raw"])  # type: ignore[method-assign]
    crops = iter(g["multi_local_raw"])
    method.student.glance = lambda view: next(crops)  # type: ignore[method-assign]
    return method


@pytest.mark.parametrize(
    ("case", "step_info", "views"), [("main", LATER, 2), ("warm", QUARTER, 2), ("multi", LATER, 4)]
)
def test_loss_and_gradient_of_the_authors(
    golden: Callable[[str], dict[str, np.ndarray]], case: str, step_info: StepInfo, views: int
) -> None:
    g = {k: torch.as_tensor(v) for k, v in golden("cgh_loss").items() if v.dtype.kind != "U"}
    students = ("q", "qh", "multi_local")[: 3 if case == "multi" else 2]
    for name in students:
        g[f"{name}_raw"].requires_grad_(True)
    loss = answering(g)(images(views), step_info)
    loss.total.backward()
    torch.testing.assert_close(loss.total.detach(), g[f"{case}_loss"], rtol=1e-9, atol=0)
    if case == "warm":
        torch.testing.assert_close(loss.terms["contrast"], g["warm_loss_cl"], rtol=1e-9, atol=0)
    for name in students:
        theirs = g[f"{case}_grad_{name.removeprefix('multi_')}_raw"]
        torch.testing.assert_close(g[f"{name}_raw"].grad, theirs, rtol=1e-9, atol=1e-9)


def test_infonce_gives_way_linearly_within_its_share_of_the_run() -> None:
    method = cgh()
    assert [method.relations(StepInfo(step, 1600)) for step in (0, 10, 20, 40, 41, 1599)] == [0, 0.25, 0.5, 1, 1, 1]
    assert cgh(config=dataclasses.replace(TINY, warmup=0.0)).relations(START) == 1.0


def test_a_place_of_the_queues_belongs_to_one_image() -> None:
    """After steps that wrap around, every place holds both descriptions of one image, the newest ones."""
    method = cgh()
    pushed = torch.randn(2, 40, 6, dtype=torch.float64)
    for last, hyper in zip(pushed[0].split(5), pushed[1].split(5), strict=True):
        method.after_step(LossOutput(torch.zeros(()), {}, {"last": last, "hyper": hyper}), LATER)
    newest = torch.arange(24, 40).roll(40 % 16)
    for name, rows in zip(("last", "hyper"), pushed, strict=True):
        torch.testing.assert_close(method.queue[name], normalize(rows[newest], dim=1))


def test_the_teacher_follows_backbone_and_both_heads() -> None:
    method, batch = cgh("resnet"), images(2)
    before = {name: p.clone() for name, p in method.teacher.module.named_parameters()}
    student = dict(method.student.named_parameters())
    method.after_step(method(batch, LATER), LATER)
    for name, now in method.teacher.module.named_parameters():
        torch.testing.assert_close(now, 0.999 * before[name] + 0.001 * student[name])
    assert {name.split(".")[0] for name in before} == {"backbone", "pool", "last", "hyper"}


def test_contexts_count_from_either_end() -> None:
    resnet = small_resnet()
    assert CGHConfig().taps(resnet) == (3, 4)
    assert CGHConfig(contexts=(4, 2, -1)).taps(resnet) == (2, 4)
    pool = CGHConfig(hidden=12, dim=6, queue=16, contexts=(2, 3, 4)).build(resnet).student.pool
    assert pool.mix[0].in_channels == 6 + 8 + 10


def test_contexts_that_do_not_exist_are_refused() -> None:
    for contexts in ((0, 4), (3, 5), (-5, -1), ()):
        with pytest.raises(UserError, match=r"contexts \(.*\) are not all in 'resnet18': choose depths from 1 to 4"):
            dataclasses.replace(TINY, contexts=contexts).build(small_resnet())


def test_other_methods_cannot_build_on_it() -> None:
    with pytest.raises(UserError, match="no method can be built on 'cgh': its last vector learns from its own"):
        HostConfig.choose("cgh")


def test_views_that_do_not_suit_are_refused() -> None:
    with pytest.raises(UserError, match=r"'supervised' are 1 of each image and cgh compares 2 to 6; choose one of"):
        CGHConfig(views="supervised").make_views(32)


def test_crops_of_several_sizes() -> None:
    config = dataclasses.replace(TINY, views="ressl-multicrop")
    batch = batch_for(config, 4, torch.float64)
    assert {view.shape[-1] for view in batch.views} == {8, 16}
    assert cgh("resnet", config)(batch, LATER).total.isfinite()


def test_queues_that_do_not_suit_are_refused() -> None:
    with pytest.raises(UserError, match=r"1,001 rows is larger than the store of 1,000 images; take at most 1,000"):
        CGHConfig(queue=1001).resolve(DataContext(num_images=1000, batch_size=256, forward_batch_size=256))
