"""Local crops of hosts with two global views: each is compared with both, in the host and in every layer of SDSSL."""

import filecmp
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import limbeck
from limbeck.core.types import Batch
from limbeck.methods import HostConfig, Method, MethodConfig
from limbeck.methods.base import Host, SymmetricEMAHost
from limbeck.methods.config.barlow import BarlowConfig
from limbeck.methods.config.base import LocalCropsConfig
from limbeck.methods.config.byol import BYOLConfig
from limbeck.methods.config.dino import DINOConfig
from limbeck.methods.config.lejepa import LeJEPAConfig
from limbeck.methods.config.mocov3 import MoCoV3Config
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.methods.config.seed import SEEDConfig
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.methods.config.simsiam import SimSiamConfig
from limbeck.methods.config.swav import SwAVConfig
from limbeck.methods.config.vicreg import VICRegConfig
from limbeck.methods.config.wmse import WMSEConfig
from limbeck.methods.sdssl import SDSSL
from limbeck.train.interrupt import Interrupted
from tests.helpers import laws, loops, loss_loops
from tests.helpers.commands import Run
from tests.helpers.distill import STUDENT, TRAINING, images
from tests.helpers.errors import raises
from tests.helpers.tiny import CONTEXT, SIZES, STEP, batch_for, shrink, tiny_vit

COUNT = 5
VIT_ARGS = '{"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}'
SMALL = SIZES | {"dim": 3, "bottleneck": 2}
HOSTS: dict[str, HostConfig] = {
    "byol": BYOLConfig(views="dino", num_local_crops=2),
    "mocov3": MoCoV3Config(views="multicrop", num_local_crops=1),
    "simclr": SimCLRConfig(num_local_crops=2),
    "vicreg": VICRegConfig(num_local_crops=1),
    "barlow": BarlowConfig(num_local_crops=1),
    "simsiam": SimSiamConfig(num_local_crops=2),
    "wmse": WMSEConfig(num_local_crops=2, whitening_size=24),
}


def build(config: MethodConfig) -> Method:
    """Build a method in float64, away from its start: a fresh CLS token is 1e-6 long, and EMA encoders shall differ."""
    torch.manual_seed(0)
    method = shrunk(config).build(tiny_vit()).double()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return method


def shrunk(config: MethodConfig) -> MethodConfig:
    """Return a small configuration; W-MSE's slice is the batch, which is barely longer than wide."""
    small: Any = shrink(config, SMALL)
    return small if "wmse" not in (config.name, getattr(small, "host", small).name) else with_slices(small)


def with_slices(small: Any) -> MethodConfig:
    found: MethodConfig = (
        replace(small, host=with_slices(small.host)) if hasattr(small, "host") else replace(small, whitening_size=COUNT)
    )
    return found


def contrast(queries: list[Tensor], targets: list[Tensor], v: int, k: int) -> Tensor:
    """Return NT-Xent of view v with its positive in global view k; the other global view of its image is left out."""
    candidates, rows = torch.cat(targets[:2]), torch.arange(COUNT)
    return loss_loops.info_nce_loops(queries[v], candidates, rows + k * COUNT, 0.2, rows + (1 - k) * COUNT)


def regularized(queries: list[Tensor], targets: list[Tensor], v: int, k: int) -> Tensor:
    squares = [(a - b) ** 2 for x, y in zip(queries[v], targets[k], strict=True) for a, b in zip(x, y, strict=True)]
    spread = 25 * loss_loops.variance_loops(queries[v]) / 2 + loss_loops.covariance_loops(queries[v])
    return 25 * torch.stack(squares).mean() / 2 + spread


PAIRS: dict[str, Callable[[list[Tensor], list[Tensor], int, int], Tensor]] = {
    "byol": lambda q, t, v, k: loops.byol(q[v], t[k]),
    "mocov3": lambda q, t, v, k: loops.mocov3(q[v], t[k]),
    "simclr": contrast,
    "vicreg": regularized,
    "barlow": lambda q, t, v, k: loss_loops.barlow_loops(q[v], t[k], 0.0051) / 2,
    "simsiam": lambda q, t, v, k: loops.byol(q[v], t[k].detach()) / 4 - 1 / 2,
}


def definition(name: str, queries: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Return the loss over the pairs of a global view and any other: the sum; SimCLR's mean; W-MSE's of all pairs."""
    if name == "wmse":
        whitened = [[loss_loops.whiten_loops(rows, 0.0) for rows in side] for side in (queries, targets)]
        pairs = [(q, t) for i, q in enumerate(whitened[0]) for j, t in enumerate(whitened[1]) if i != j]
        return torch.stack([loss_loops.w_mse_loops(torch.stack(pair), euclidean=False) for pair in pairs]).mean()
    losses = [PAIRS[name](queries, targets, v, k) for v in range(len(queries)) for k in (0, 1) if v != k]
    return torch.stack(losses).mean() if name == "simclr" else torch.stack(losses).sum()


def embedded(head: Any, features: list[Tensor], joined: bool) -> list[Tensor]:
    """Project the features of each view, in one scope of BatchNorm if views are joined, or one for each."""
    if joined:
        return list(head.project(torch.cat(features)).chunk(len(features)))
    return [head.project(rows) for rows in features]


def targets_of(host: Host, batch: Batch, projections: list[Tensor]) -> list[Tensor]:
    if not isinstance(host, SymmetricEMAHost):
        return projections
    with torch.no_grad():
        return [host.ema_encoder.module(view) for view in batch.views[:2]]


def same(method: Method, found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    gradients = (torch.autograd.grad(t, trained, allow_unused=True, materialize_grads=True) for t in (found, expected))
    for one, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(one, reference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", HOSTS)
def test_every_local_crop_is_compared_with_both_global_views(name: str) -> None:
    """Value and gradient in float64."""
    method, batch = build(HOSTS[name]), batch_for(HOSTS[name], COUNT, torch.float64)
    assert isinstance(method, Host)
    assert [view.shape[-1] for view in batch.views[:3]] == [16, 16, 8]
    features = [method.backbone(view).final for view in batch.views]
    z = embedded(method.head, features, joined=name in ("simclr", "wmse"))
    targets, queries = targets_of(method, batch, z), [method.head.predict(rows) for rows in z]
    same(method, method(batch, STEP).total, definition(name, queries, targets))


@pytest.mark.parametrize("name", HOSTS)
def test_layers_of_sdssl_compare_their_local_crops_with_the_targets_of_the_host(name: str) -> None:
    config = SDSSLConfig(host=HOSTS[name], layers=(1,), alpha=1.0, alpha_schedule="constant", predictor_weight=0.0)
    method, batch = build(config), batch_for(config, COUNT, torch.float64)
    assert isinstance(method, SDSSL)
    joined, layer = name in ("simclr", "wmse"), method.heads["1"]
    passes = [method.backbone(view, (1,)) for view in batch.views]
    own = embedded(method.host.head, [found.final for found in passes], joined)
    z = embedded(layer, [found.taps[1] for found in passes], joined)
    targets = targets_of(method.host, batch, own)
    queries = [method.host.head.predict(rows) for rows in own]
    expected = definition(name, queries, targets)
    lower = definition(name, [layer.predict(rows) for rows in z], [rows.detach() for rows in targets])  # type: ignore[operator]
    loss = method(batch, STEP)
    torch.testing.assert_close(loss.terms["layer1"], lower.detach(), rtol=1e-8, atol=1e-10)
    same(method, loss.total, expected + lower)


@pytest.mark.parametrize("name", ["simclr", "vicreg", "barlow", "simsiam", "wmse"])
def test_the_laws_hold_with_local_crops(name: str) -> None:
    config: MethodConfig = shrink(HOSTS[name], SMALL).resolve(CONTEXT)
    laws.test_loss_is_a_finite_float32_scalar(config, half=True)
    laws.test_the_gradient_reaches_trained_parameters_alone(config)
    laws.test_forward_changes_nothing_and_after_step_updates_state(config)
    laws.test_the_order_of_the_images_does_not_matter(config)
    laws.test_the_configuration_survives_json(config)


def sides(config: MethodConfig, size: int = 96) -> list[int]:
    return [view.augmentation.size for view in config.make_views(size)]


def test_number_and_size_are_those_of_the_preset_or_as_configured() -> None:
    assert sides(SimCLRConfig()) == [96] * 2
    assert sides(SimCLRConfig(views="multicrop")) == [96] * 2 + [40] * 6
    assert sides(SimCLRConfig(num_local_crops=3)) == sides(SDSSLConfig(host=SimCLRConfig(num_local_crops=3)))
    assert sides(SimCLRConfig(num_local_crops=3)) == [96] * 2 + [40] * 3
    assert sides(DINOConfig(num_local_crops=0)) == [96] * 2
    assert sides(LeJEPAConfig(num_local_crops=1, local_crop_size=24)) == [96] * 2 + [24]
    assert sides(WMSEConfig(num_views=3, num_local_crops=2)) == [96] * 3 + [40] * 2
    own, swav = (config.make_views(96)[2].augmentation for config in (DINOConfig(num_local_crops=1), SwAVConfig()))
    assert (own.scale, swav.scale) == ((0.05, 0.4), (0.05, 0.14))
    whole, crop = (view.augmentation for view in SimCLRConfig(num_local_crops=1).make_views(96)[::2])
    assert replace(crop, size=96, scale=whole.scale) == whole


@pytest.mark.parametrize(
    ("settings", "code", "values"),
    [
        ({"num_local_crops": -1}, "out-of-range", [-1, 6]),
        ({"local_crop_size": 16}, "no-effect", [16, "num_local_crops"]),
        ({"num_local_crops": 0, "local_crop_size": 16}, "no-effect", [16]),
        ({"num_local_crops": 2, "local_crop_size": 32}, "out-of-range", [32]),
        ({"num_local_crops": 2, "local_crop_size": 64}, "out-of-range", [64, 32]),
        ({"num_local_crops": 2, "local_crop_size": 0}, "out-of-range", [0, 8]),
        ({"num_local_crops": 2, "local_crop_size": -8}, "out-of-range", [-8, 8]),
    ],
)
def test_crops_that_cannot_be_made(settings: dict[str, Any], code: str, values: list[object]) -> None:
    host: LocalCropsConfig = SimCLRConfig(**settings)
    for config in (host, SDSSLConfig(host=host)):
        with raises(code, *values):
            config.make_views(32)


def test_a_distiller_has_no_fewer_than_none() -> None:
    with raises("out-of-range", -2):
        SEEDConfig(num_local_crops=-2).make_views(32)


def test_the_command_line_says_what_does_not_fit(run_folder: Callable[..., tuple[int, str]]) -> None:
    vit = ("--backbone", "vit_tiny_patch16_224", "--backbone.args", VIT_ARGS)
    code, err = run_folder(*vit, "--method.num-local-crops", "2", "--method.local-crop-size", "10")
    assert code != 0
    assert "10 pixels" in err
    assert "patch size 4" in err
    code, err = run_folder(*vit, "--method.num-local-crops", "-2")
    assert code != 0
    assert "num_local_crops is -2" in err


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    np.savez(tmp_path / "digits.npz", images=images()[0], labels=images()[1])
    method = shrink(SimCLRConfig(num_local_crops=2), SMALL)
    settings: dict[str, Any] = {"method": method, "backbone": STUDENT, "training": TRAINING}
    whole = limbeck.pretrain(tmp_path / "digits.npz", tmp_path / "whole", **settings)

    def stop(*_: Any) -> dict[str, float]:
        signal.raise_signal(signal.SIGTERM)
        return {}

    with monkeypatch.context() as patched:
        patched.setattr("limbeck.train.loop.evaluate_encoder", stop)
        with pytest.raises(Interrupted):
            limbeck.pretrain(tmp_path / "digits.npz", tmp_path / "stopped", **settings)
    resumed = limbeck.resume(tmp_path / "stopped")
    first, second = (run / "encoder" / "model.safetensors" for run in (whole, resumed))
    assert filecmp.cmp(first, second, shallow=False)


@pytest.fixture
def run_folder(limbeck: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Train SimCLR on digits with further words; return the status and what was said."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    np.savez(tmp_path / "digits.npz", images=images()[0])

    def run(*words: str) -> tuple[int, str]:
        shared = ("--method", "simclr", "--method.hidden", "16", "--epochs", "1", "--batch-size", "20")
        code, _, err = limbeck("pretrain", tmp_path / "digits.npz", *shared, *words, "--out", tmp_path / "run")
        return code, err.strip().splitlines()[-1]

    return run
