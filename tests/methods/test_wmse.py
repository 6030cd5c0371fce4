"""W-MSE: the authors' numbers through the whole method, slices, use as a host, invalid options."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

import limbeck
from limbeck.core.distributed import sync_batchnorm
from limbeck.core.types import Batch, DataContext, StepInfo
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.methods.config.wmse import WMSEConfig
from limbeck.methods.wmse import WMSE
from limbeck.models.heads import Head
from limbeck.train.config import TrainConfig
from tests.helpers.errors import raises
from tests.helpers.forks import FORKS
from tests.helpers.golden import assert_allclose
from tests.helpers.loss_loops import w_mse_loops, whiten_loops
from tests.helpers.tiny import Flat, tiny_vit, views_of

Golden = Callable[[str], dict[str, np.ndarray]]
STEP = StepInfo(0, 10)
CONTEXT = DataContext(num_images=50_000, batch_size=512, forward_batch_size=512)


def wmse(**settings: Any) -> WMSE:
    torch.manual_seed(0)
    return WMSEConfig(**{"hidden": 12, "dim": 4, **settings}).build(tiny_vit())


def batch(views: int, count: int) -> Batch:
    return Batch(views_of(count, (16,) * views, torch.float64, seed=0), torch.arange(count))


def over_vectors(config: WMSEConfig, head: nn.Module, width: int) -> WMSE:
    """Return W-MSE over views that are vectors."""
    method = config.build(Flat(nn.Identity(), width))
    method.head = Head(head)
    return method


def slice_as(monkeypatch: pytest.MonkeyPatch, orders: np.ndarray) -> None:
    monkeypatch.setattr("limbeck.methods.wmse.broadcast_from_rank0", lambda drawn: torch.from_numpy(orders))


CASES = ["d2", "d2_one_slice", "d2_iter4", "d2_eps", "d2_euclid", "d3", "d4", "d4_iter2_euclid_eps", "d4_one_slice"]


@pytest.mark.parametrize("case", [*CASES, "cifar_shape_f64", "cifar_shape_f32"])
def test_loss_of_the_authors(golden: Golden, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    single = case.endswith("f32")
    found, rows = golden("wmse_loss"), "cifar_shape_f64" if single else case
    g = {name: found[f"{rows if name in ('h', 'perms') else case}/{name}"] for name in ("h", "perms", "loss", "gh")}
    views, size, repeats = (int(found[f"{case}/{name}"]) for name in ("d", "w_size", "w_iter"))
    config = WMSEConfig(
        num_views=views,
        dim=g["h"].shape[1],
        whitening_size=size,
        whitening_repeats=repeats,
        shrinkage=float(found[f"{case}/eps"]),
        euclidean=not found[f"{case}/norm"],
    )
    slice_as(monkeypatch, g["perms"])
    h = torch.from_numpy(g["h"]).to(torch.float32 if single else torch.float64).requires_grad_(True)
    loss = over_vectors(config, nn.Identity(), config.dim)(Batch(h.chunk(views), torch.arange(1)), STEP).total
    loss.backward()
    assert loss.dtype is h.dtype
    assert_allclose(loss.item(), g["loss"], rtol=1e-5 if single else 1e-7)
    tolerance = {"rtol": 0, "atol": 1e-4 * np.abs(g["gh"]).max()} if single else {"rtol": 1e-7, "atol": 1e-9}
    assert_allclose(h.grad, g["gh"], **tolerance)


def test_head_of_the_authors(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both views go through the head, and its BatchNorm, together."""
    g = golden("wmse_head")
    config = WMSEConfig(hidden=12, dim=6, whitening_size=16)
    head = config.build(tiny_vit()).make_head(10).projector.double()
    head.load_state_dict({key[6:]: torch.from_numpy(value) for key, value in g.items() if key.startswith("param/")})
    slice_as(monkeypatch, g["perms"])
    features = torch.from_numpy(g["feat"]).requires_grad_(True)
    loss = over_vectors(config, head, 10)(Batch(features.chunk(2), torch.arange(1)), STEP).total
    loss.backward()
    assert_allclose(loss.item(), g["loss"], rtol=1e-7)
    assert_allclose(features.grad, g["gfeat"], rtol=1e-7, atol=1e-9)
    for name, parameter in head.named_parameters():
        assert_allclose(parameter.grad, g[f"grad/{name}"], rtol=1e-7, atol=1e-9)
    for name, buffer in head.named_buffers():
        assert_allclose(buffer, g[f"after/{name}"], rtol=1e-7)


@pytest.mark.parametrize("euclidean", [False, True])
def test_a_step_equals_the_loops(euclidean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three views, two orders, two slices in each."""
    orders = np.stack([np.random.default_rng(seed).permutation(12) for seed in (0, 1)])
    slice_as(monkeypatch, orders)
    config = {"num_views": 3, "whitening_size": 6, "whitening_repeats": 2, "shrinkage": 0.02, "euclidean": euclidean}
    method = wmse(**config).double()
    features = [method.backbone(view).final for view in batch(3, 12).views]
    rows = method.head.project(torch.cat(features)).chunk(3)
    slices = [order[start : start + 6] for order in orders for start in (0, 6)]
    whitened = [torch.stack([whiten_loops(view[rows_], 0.02) for view in rows]) for rows_ in slices]
    slow = torch.stack([w_mse_loops(views, euclidean) for views in whitened]).mean()
    fast = method(batch(3, 12), STEP).total
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-11)
    trained = [p for p in method.parameters() if p.requires_grad]
    gradients = (torch.autograd.grad(loss, trained) for loss in (fast, slow))
    for pair in zip(*gradients, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-7, atol=1e-10)


def test_the_backbone_runs_per_view_and_the_head_on_all_views() -> None:
    method = wmse(num_views=3)
    seen: list[int] = []
    for module in (method.backbone, method.head.projector):
        module.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    method.float()(Batch(tuple(v.float() for v in batch(3, 8).views), torch.arange(8)), STEP)
    assert seen == [8, 8, 8, 24]


def test_one_slice_needs_no_order_and_repeats_nothing() -> None:
    state = torch.get_rng_state()
    first, again = (wmse(whitening_size=12).double()(batch(2, 12), STEP).total for _ in range(2))
    assert torch.equal(first, again)
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("euclidean", [False, True])
def test_its_own_rows_as_queries_and_targets_are_its_own_loss(euclidean: bool) -> None:
    method = wmse(num_views=3, whitening_size=12, euclidean=euclidean).double()
    step = method.encode(batch(3, 12))
    loss, matched = method.loss(step), method.pair_loss(step.projections[0], step.targets[0].clone())
    torch.testing.assert_close(matched, loss, rtol=1e-12, atol=1e-12)
    trained = [p for p in method.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(value, trained, retain_graph=True) for value in (loss, matched)]
    for pair in zip(*gradients, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-12)


def test_queries_and_targets_are_whitened_separately() -> None:
    """As in SDSSL: view i of a layer against the other views of the last layer, each whitened by itself."""
    method = wmse(num_views=3, whitening_size=9).double()
    queries, targets = torch.randn(2, 3, 9, 4, dtype=torch.float64)
    queries.requires_grad_(True)
    whitened = [torch.stack([whiten_loops(view, 0.0) for view in rows]) for rows in (queries, targets)]
    pairs = [torch.stack([whitened[0][i], whitened[1][j]]) for i in range(3) for j in range(3) if i != j]
    slow = torch.stack([w_mse_loops(pair, euclidean=False) for pair in pairs]).mean()
    fast = method.pair_loss(queries.flatten(0, 1), targets)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-11)
    gradients = (torch.autograd.grad(loss, queries)[0] for loss in (fast, slow))
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-11)


def outcome(batch: Batch, seed: int) -> dict[str, Tensor]:
    """Return loss and gradients with three views, two orders and three slices, drawn from `seed`."""
    method = wmse(num_views=3, whitening_size=8, whitening_repeats=2).double()
    sync_batchnorm(method, torch.device("cpu"))
    torch.manual_seed(seed)
    total = method(batch, STEP).total
    total.backward()
    return {"loss": total.detach(), **{k: p.grad for k, p in method.named_parameters() if p.grad is not None}}


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    views = tuple(view[rank::2] for view in batch(3, 24).views)
    found = outcome(Batch(views, torch.arange(12)), seed=rank)
    for value in found.values():
        dist.all_reduce(value)
        value /= 2
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_slices_extend_over_processes(tmp_path: Path) -> None:
    """Two processes of 12 images, with different random numbers, cut the joined batch as one process does."""
    start_processes(one_of_two, args=(str(tmp_path),), nprocs=2, start_method=FORKS.get_start_method())
    expected = outcome(batch(3, 24), seed=0)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-11, msg=key)


@pytest.mark.parametrize(
    ("settings", "images", "size"),
    [
        ({}, 512, 128),
        ({"dim": 128}, 512, 256),
        ({}, 300, 150),  # 128 does not divide 300
        ({}, 254, 254),
        ({"shrinkage": 0.1}, 100, 100),  # shrinkage lets slices be small
        ({"whitening_size": 256}, 512, 256),
        ({"whitening_size": 32, "shrinkage": 0.1}, 512, 32),
    ],
)
def test_a_slice_is_twice_as_long_as_wide_or_as_configured(settings: dict[str, Any], images: int, size: int) -> None:
    assert WMSEConfig(**settings).resolve(DataContext(50_000, images, images)).whitening_size == size


@pytest.mark.parametrize(
    ("settings", "context", "code", "values"),
    [
        ({"num_views": 1}, CONTEXT, "too-few-views", [1, 2]),
        ({"whitening_repeats": 0}, CONTEXT, "too-few-whitening-repeats", [0, 1]),
        ({"shrinkage": 1.0}, CONTEXT, "shrinkage-out-of-range", [1.0, 0.01]),
        ({}, DataContext(9_000, 100, 100), "whitening-size-too-small", [100, "nearly singular", 128, "dim 50", 0.01]),
        ({}, DataContext(9_000, 100, 50), "whitening-size-too-small", [50, "a singular", "batch of 256", "dim 25"]),
        ({"whitening_size": 64}, CONTEXT, "whitening-size-too-small", [64, "a singular", "whitening_size 128"]),
        ({"whitening_size": 65}, CONTEXT, "whitening-size-too-small", [65, "nearly singular"]),
        ({"whitening_size": 128}, DataContext(9_000, 500, 500), "slices-do-not-divide-the-batch", [128, 500, 512]),
        ({"whitening_size": 128}, DataContext(510, 500, 500), "slices-do-not-divide-the-batch", [500, "batch of 384"]),
        ({"whitening_size": 128}, DataContext(9_000, 600, 300), "slices-do-not-divide-the-batch", [300, 512]),
        ({"whitening_repeats": 4}, DataContext(9_000, 128, 128), "too-many-whitening-repeats", [128, 4, 256]),
    ],
)
def test_options_that_do_not_suit_the_batch_are_refused(
    settings: dict[str, Any], context: DataContext, code: str, values: list[object]
) -> None:
    with raises(code, *values):
        WMSEConfig(**settings).resolve(context)
    with raises(code, *values):  # as a host as well
        SDSSLConfig(host=WMSEConfig(**settings)).resolve(context)


def test_a_run_stores_the_slice_it_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("limbeck.runs.training.train", lambda *args, **kwargs: None)
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    for name, method in (("alone", WMSEConfig(dim=4)), ("host", SDSSLConfig(host=WMSEConfig(dim=4)))):
        run = limbeck.pretrain(images, tmp_path / name, method=method, training=TrainConfig(batch_size=50))
        assert '"whitening_size": 10' in (run / "config.json").read_text()


def test_an_unresolved_method_refuses_a_batch_that_its_slices_do_not_divide() -> None:
    with raises("slices-do-not-divide-the-batch", 8, 12):
        wmse().double()(batch(2, 12), STEP)


def test_any_number_of_views_is_taken_from_the_pair_in_turn() -> None:
    views = WMSEConfig(num_views=5, views="byol").make_views(32)
    pair = WMSEConfig(views="byol").make_views(32)
    assert views == (*pair, *pair, pair[0])
    with raises("wrong-number-of-views", "multicrop", 8):
        dataclasses.replace(WMSEConfig(), views="multicrop").make_views(32)


def test_the_hint_for_a_loss_of_nan_names_the_slices() -> None:
    method = wmse(whitening_size=12).double()
    with torch.no_grad():
        list(method.head.projector.parameters())[-2].zero_()
    assert method(batch(2, 12), STEP).total.isnan()
    assert "slices of 12 images in 4 columns" in method.nonfinite_hint
    assert SDSSLConfig(host=method.cfg, hidden=8).build(tiny_vit()).nonfinite_hint == method.nonfinite_hint
