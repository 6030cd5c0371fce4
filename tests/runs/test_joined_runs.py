"""Runs with patch filters: what they end with, on digits, and which runs refuse them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

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
from limbeck.runs.api import adapt, pretrain
from tests.helpers.distill import STUDENT, TRAINING, images
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


def test_the_small_network_with_filters_is_small() -> None:
    backbone = build_backbone(resolve_small(32, joined=True).value)
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
