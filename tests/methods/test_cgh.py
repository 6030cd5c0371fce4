"""CGH: crossed targets, the warm-up, aligned queues, the contexts of each crop; the authors' numbers."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from limbeck.core.types import Batch, DataContext, LossOutput, StepInfo
from limbeck.methods import HostConfig
from limbeck.methods.cgh import CGH
from limbeck.methods.config.cgh import CGHConfig
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from tests.helpers.errors import raises
from tests.helpers.tiny import batch_for, tiny_vit

TINY = CGHConfig(hidden=12, dim=6, queue_size=16)
START, QUARTER, LATER = StepInfo(0, 1600), StepInfo(10, 1600), StepInfo(800, 1600)  # the warm-up takes 40 of 1600 steps
EVERY = pytest.mark.parametrize("network", ["resnet", "vit"])


def small_resnet() -> Backbone:
    args = {"channels": [4, 6, 8, 10], "layers": [1, 1, 1, 1]}
    return build_backbone(BackboneConfig(name="resnet18", image_size=32, args=args))


def cgh(network: str = "vit", config: CGHConfig = TINY) -> CGH:
    torch.manual_seed(0)
    method = config.build(small_resnet() if network == "resnet" else tiny_vit()).double()
    with torch.no_grad():
        for parameter in method.ema_encoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for name in ("global", "hyper"):  # unit rows of float32 are not unit rows of float64
        method.queue[name].copy_(normalize(method.queue[name], dim=1))
    return method


def images(views: int, count: int = 4) -> Batch:
    return Batch(tuple(torch.randn(views, count, 3, 16, 16, dtype=torch.float64)), torch.arange(count))


def relation(row: Tensor, bank: Tensor, t: float) -> Tensor:
    """Return the softmax of a row's cosines with the unit rows of the bank."""
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
    (whole, hyper), (k_whole, k_hyper) = method.student(first), method.ema_encoder.module(weak)
    global_bank, hyper_bank = method.queue["global"], method.queue["hyper"]
    crops = [whole, *(method.student.global_projector(method.backbone(view).final) for view in further)]
    to_hyper = relate(hyper, hyper_bank, 0.08, k_whole, global_bank, 0.04)
    to_global = torch.stack([relate(crop, global_bank, 0.1, k_hyper, hyper_bank, 0.08) for crop in crops]).mean()
    warm = contrast(whole, k_whole, global_bank) + contrast(hyper, k_hyper, hyper_bank)
    expected = a / 2 * (to_hyper + to_global) + (1 - a) * warm

    loss = method(batch, step_info)
    torch.testing.assert_close(loss.total, expected, rtol=1e-8, atol=1e-10)
    assert ("contrast" in loss.terms) == (a < 1)
    trained = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(*(torch.autograd.grad(value, trained) for value in (loss.total, expected)), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-6, atol=1e-9)


def with_embeddings(g: dict[str, Tensor]) -> CGH:
    """Return the method with the authors' queues, and networks that return the authors' embeddings."""
    method = cgh(config=dataclasses.replace(TINY, queue_size=16))
    method.queue.register_buffer("global", g["queue_global"].T.contiguous())
    method.queue.register_buffer("hyper", g["queue_hyper"].T.contiguous())
    method.ema_encoder.module.forward = lambda view: (g["k_raw"], g["kh_raw"])  # type: ignore[method-assign]
    method.student.forward = lambda view: (g["q_raw"], g["qh_raw"])  # type: ignore[method-assign]
    crops = iter(g["multi_local_raw"])
    method.student.forward_global = lambda view: next(crops)  # type: ignore[method-assign]
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
    loss = with_embeddings(g)(images(views), step_info)
    loss.total.backward()
    torch.testing.assert_close(loss.total.detach(), g[f"{case}_loss"], rtol=1e-9, atol=0)
    if case == "warm":
        torch.testing.assert_close(loss.terms["contrast"], g["warm_loss_cl"], rtol=1e-9, atol=0)
    for name in students:
        expected = g[f"{case}_grad_{name.removeprefix('multi_')}_raw"]
        torch.testing.assert_close(g[f"{name}_raw"].grad, expected, rtol=1e-9, atol=1e-9)


def test_infonce_gives_way_linearly_during_the_warmup() -> None:
    method = cgh()
    assert [method.relation_weight(StepInfo(step, 1600)) for step in (0, 10, 20, 40, 41, 1599)] == [
        0,
        0.25,
        0.5,
        1,
        1,
        1,
    ]
    assert cgh(config=dataclasses.replace(TINY, warmup_fraction=0.0)).relation_weight(START) == 1.0


def test_a_place_of_the_queues_belongs_to_one_image() -> None:
    """After steps that wrap around, every place holds both embeddings of one image, the newest ones."""
    method = cgh()
    enqueued = torch.randn(2, 40, 6, dtype=torch.float64)
    for whole, hyper in zip(enqueued[0].split(5), enqueued[1].split(5), strict=True):
        method.after_step(LossOutput(torch.zeros(()), {}, {"global": whole, "hyper": hyper}), LATER)
    newest = torch.arange(24, 40).roll(40 % 16)
    for name, rows in zip(("global", "hyper"), enqueued, strict=True):
        torch.testing.assert_close(method.queue[name], normalize(rows[newest], dim=1))


def test_the_ema_encoder_follows_backbone_and_both_heads() -> None:
    method, batch = cgh("resnet"), images(2)
    before = {name: p.clone() for name, p in method.ema_encoder.module.named_parameters()}
    student = dict(method.student.named_parameters())
    method.after_step(method(batch, LATER), LATER)
    for name, now in method.ema_encoder.module.named_parameters():
        torch.testing.assert_close(now, 0.999 * before[name] + 0.001 * student[name])
    assert {name.split(".")[0] for name in before} == {"backbone", "pool", "global_projector", "hyper_projector"}


def test_layers_count_from_either_end() -> None:
    resnet = small_resnet()
    assert CGHConfig().taps(resnet.taps) == (3, 4)
    assert CGHConfig(hypercolumn_layers=(4, 2, -1)).taps(resnet.taps) == (2, 4)
    pool = CGHConfig(hidden=12, dim=6, queue_size=16, hypercolumn_layers=(2, 3, 4)).build(resnet).student.pool
    assert pool.mix[0].in_channels == 6 + 8 + 10


def test_layers_that_do_not_exist_are_refused() -> None:
    for layers in ((0, 4), (3, 5), (-5, -1), ()):
        with raises("depth-out-of-range", layers, "1 to 4", "-4 to -1"):
            dataclasses.replace(TINY, hypercolumn_layers=layers).build(small_resnet())


def test_other_methods_cannot_build_on_it() -> None:
    with raises("not-a-host", "cgh", CGHConfig.not_a_host_reason):
        HostConfig.choose("cgh")


def test_views_that_do_not_suit_are_refused() -> None:
    with raises("wrong-number-of-views", "supervised", "2 to 6"):
        CGHConfig(views="supervised").make_views(32)


def test_crops_of_several_sizes() -> None:
    config = dataclasses.replace(TINY, views="ressl-multicrop")
    batch = batch_for(config, 4, torch.float64)
    assert {view.shape[-1] for view in batch.views} == {8, 16}
    assert cgh("resnet", config)(batch, LATER).total.isfinite()


def test_queues_that_do_not_suit_are_refused() -> None:
    with raises("queue-too-large", "1,001", "1,000"):
        CGHConfig(queue_size=1001).resolve(DataContext(num_images=1000, batch_size=256, forward_batch_size=256))
