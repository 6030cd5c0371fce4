"""Runs with patch filters: what they end with, on digits, and which runs refuse them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.data.store.store import Store
from limbeck.exports.write import export
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.methods import MethodConfig, method_config
from limbeck.metrics.cost import count_operations, count_parameters
from limbeck.modalities.images.join import set_components
from limbeck.modalities.images.sizes import resolve_small
from limbeck.models.backbone import build_backbone
from limbeck.models.config import StartConfig
from limbeck.models.encoder_io import load, load_preprocessing
from limbeck.models.joined import DIRECTIONS, JoinedFilters
from limbeck.runs.api import adapt, distill, pretrain
from limbeck.runs.choose import fill
from limbeck.runs.recipes import recipe_file
from tests.helpers.distill import CUSTOM, STUDENT, TRAINING, images
from tests.helpers.errors import raises
from tests.helpers.tiny import SIZES, shrink

JOINED = replace(STUDENT, patch_filters=6)
METHOD: MethodConfig = shrink(method_config("vicreg")(), SIZES)


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the stores and caches that runs build out of the user's own folder."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def test_both_parts_have_the_same_weight_and_the_whole_is_half_whitened() -> None:
    """With both parts divided by the root of their mean square, the result has the root of that covariance."""
    generator = torch.Generator().manual_seed(0)
    network = torch.randn(300, 3, generator=generator) @ torch.diag(torch.tensor([50.0, 20.0, 10.0])) + 7
    filters = torch.zeros(300, DIRECTIONS)
    filters[:, :2] = 0.01 * torch.randn(300, 2, generator=generator)
    joined = JoinedFilters(3, 1, ((0.5,) * 3, (0.5,) * 3))
    set_components(joined, appended := torch.cat([network, filters], dim=1))
    found = appended @ joined.weight.mT + joined.bias
    parts = [part - part.mean(dim=0) for part in (network.double(), filters[:, :2].double())]
    scaled = torch.cat([part / part.square().sum(dim=1).mean().sqrt() for part in parts], dim=1)
    values = torch.linalg.eigvalsh(scaled.mT.cov()).flip(0)
    expected = torch.diag(torch.cat([values.sqrt(), torch.zeros(DIRECTIONS - 2)]))
    torch.testing.assert_close(found.mT.double().cov(), expected, rtol=1e-3, atol=1e-4)


def test_with_targets_the_prediction_of_both_parts_is_half_whitened() -> None:
    """Targets that depend on two numbers of five: two components, which predict the targets as the regression does."""
    generator = torch.Generator().manual_seed(0)
    network, filters = torch.randn(400, 3, generator=generator), torch.zeros(400, DIRECTIONS)
    filters[:, :2] = torch.randn(400, 2, generator=generator)
    targets = torch.cat([network[:, :1], filters[:, :1]], dim=1) @ torch.randn(2, 7, generator=generator)
    joined = JoinedFilters(3, 1, ((0.5,) * 3, (0.5,) * 3))
    set_components(joined, appended := torch.cat([network, filters], dim=1), targets)
    found = appended @ joined.weight.mT + joined.bias
    assert found[:, 2:].abs().max() < 0.05  # only what a ridge of 1 % adds
    spread = found[:, :2].double().mT.cov()
    values = torch.linalg.eigvalsh(targets.double().mT.cov()).flip(0)[:2]
    torch.testing.assert_close(spread, torch.diag(values.sqrt()), rtol=0.02, atol=0.01)
    known = torch.cat([found[:, :2], torch.ones(400, 1)], dim=1)
    residual = targets - known @ torch.linalg.lstsq(known, targets).solution
    assert residual.abs().max() < 0.1 * targets.std()


def test_a_run_ends_with_joined_features_and_its_checkpoints_have_the_network_alone(tmp_path: Path) -> None:
    pixels, labels = images()
    np.savez(tmp_path / "digits.npz", images=pixels, labels=labels)
    run = pretrain(
        tmp_path / "digits.npz", tmp_path / "run", method=METHOD, backbone=JOINED, training=replace(TRAINING, epochs=1)
    )
    encoder, how = load(run).eval(), load_preprocessing(run)
    assert (encoder.cfg.patch_filters, encoder.dim) == (6, 8 + DIRECTIONS)
    assert not [key for key in torch.load(run / "checkpoint.ckpt", weights_only=True)["method"] if "joined" in key]
    store = Store.from_arrays(pixels)
    seen = eval_images(store, how.image_size, how.mean, how.std, torch.device("cpu"))

    def features(network: Any) -> Tensor:
        return extract(network, seen, np.arange(100), taps=network.taps[-1:], device=torch.device("cpu"))[4]

    found = features(encoder)
    assert found[:, 32:].abs().max() == 0  # 8 of the network and 24 discriminants at most
    result = export(run, tmp_path / "onnx", format="onnx", images=pixels)
    assert (result.dim, result.depth) == (encoder.dim, 4)
    assert result.proof is not None
    assert result.proof.neighbors > 0.99


@pytest.mark.parametrize(("width", "used"), [(256, 90), (64, 0)])
def test_a_student_is_joined_for_its_teacher_s_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, used: int
) -> None:
    """Held-out images have no part in it, nor has a teacher of fewer numbers than the joined features."""
    rows: list[int] = []

    def record(joined: JoinedFilters, appended: Tensor, targets: Tensor | None = None) -> None:
        assert targets is None or targets.shape == (len(appended), width)
        rows.append(0 if targets is None else len(targets))
        set_components(joined, appended, targets)

    monkeypatch.setattr("limbeck.modalities.images.join.set_components", record)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, width))
    settings: dict[str, Any] = {"teacher_module": network, "student": JOINED, "training": replace(TRAINING, epochs=1)}
    run = distill(images()[0], tmp_path / "run", teacher=replace(CUSTOM, targets="image"), **settings)
    assert rows == [used]
    assert load(run).dim == 8 + DIRECTIONS


def test_the_small_network_with_filters_is_small() -> None:
    cfg = fill({}, recipe_file("contrast"))["backbone"]
    backbone = build_backbone(replace(cfg, image_size=32))
    assert cfg.args == resolve_small(32, joined=True).value.args
    assert backbone.joined is not None
    assert count_parameters(backbone) < 1e6
    assert count_operations(backbone, torch.zeros(1, 3, 32, 32)) < 0.15e9
    assert not any(weights.requires_grad for weights in backbone.joined.parameters())
    assert resolve_small(4, joined=True).value.patch_filters == 0


def test_runs_that_end_with_a_network_of_their_own_refuse_filters(tmp_path: Path) -> None:
    with raises("no-effect", "patch_filters"):
        adapt(images()[0], tmp_path / "a", start=StartConfig(name="nowhere"), backbone=JOINED)
    with raises("no-effect", "patch_filters"):
        pretrain(images(), tmp_path / "b", method=method_config("classifier")(), backbone=JOINED)
