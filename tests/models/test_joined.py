"""Patch filters that are joined with the features of a network: the definition, cuts, and files with and without us."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig, StartConfig
from limbeck.models.encoder_io import Preprocessing, load, save_encoder
from limbeck.models.joined import DIRECTIONS, JoinedFilters
from limbeck.models.standalone import load as load_standalone
from limbeck.models.start import load_start, start_form
from tests.helpers.errors import raises
from tests.helpers.forks import run_module

FILTERS, WIDTH = 5, 8
RESNET = BackboneConfig(
    name="resnet18",
    image_size=32,
    args={"channels": [4, 4, 4, WIDTH], "layers": [1, 1, 1, 1], "stem_type": "deep", "stem_width": 4},
    patch_filters=FILTERS,
)
VIT = BackboneConfig(
    image_size=32, args={"patch_size": 8, "embed_dim": WIDTH, "depth": 2, "num_heads": 2}, patch_filters=FILTERS
)
HOW = Preprocessing(image_size=32, store_size=32, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def pixels(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(side))


def disturbed(cfg: BackboneConfig) -> Backbone:
    """Return a network whose filters and linear map are random."""
    backbone, generator = build_backbone(cfg).eval(), torch.Generator().manual_seed(0)
    assert backbone.joined is not None
    for constant in backbone.joined.parameters():
        constant.copy_(torch.randn(constant.shape, generator=generator) / constant.shape[-1] ** 0.5)
    return backbone


@pytest.mark.parametrize("side", [32, 70])
def test_joined_features_are_a_linear_map_of_those_of_network_and_filters(side: int) -> None:
    joined = disturbed(RESNET).joined
    assert joined is not None
    seen, features = pixels(2, side), torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    small = 255 * seen.double().numpy() - 127.5
    if side == 70:  # means of 2 x 2 pixels
        small = small.reshape(2, 3, 35, 2, 35, 2).mean(axis=(3, 5))
    own = joined.filters(torch.from_numpy(small).float()).double().numpy() @ joined.projection.double().numpy()
    both = np.concatenate([features.double().numpy(), own], axis=1)
    expected = both @ joined.weight.double().numpy().T + joined.bias.double().numpy()
    found = joined(features, (seen - mean) / std)
    assert found.shape == (2, WIDTH + DIRECTIONS)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(joined(features, (seen - mean) / std), found)


@pytest.mark.parametrize("cfg", [RESNET, VIT])
@torch.no_grad()
def test_only_the_whole_depth_is_joined_and_every_file_has_its_features(cfg: BackboneConfig, tmp_path: Path) -> None:
    backbone, images = disturbed(cfg), pixels(2, 32)
    final, taps, _ = backbone(images, backbone.taps)
    assert torch.equal(final, taps[backbone.taps[-1]])
    assert final.shape[1] == backbone.dim == backbone.tap_dims[backbone.taps[-1]] == WIDTH + DIRECTIONS
    torch.testing.assert_close(backbone.network(images), final)
    for share in (False, True):
        cuts = [backbone.cut(depth, share=share) for depth in backbone.taps]
        for depth, cut in zip(backbone.taps, cuts, strict=True):
            torch.testing.assert_close(cut(images).final, taps[depth])
            assert (cut.joined is None) == (depth < backbone.taps[-1])
    alone = backbone.with_filters(0)
    torch.testing.assert_close(alone(images).final, backbone.model(images))
    save_encoder(backbone, tmp_path, HOW, {})
    torch.testing.assert_close(load(tmp_path).eval()(images).final, final)
    torch.testing.assert_close(load_standalone(tmp_path)(images), final)
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys, torch; sys.modules['limbeck'] = None; from model import load\n"
        "print(load('.')(torch.load('images.pt'))[0, 0].item())"
    )
    (tmp_path / "program.py").write_text(code)
    assert float(run_module(tmp_path, "program")) == pytest.approx(final[0, 0].item(), rel=1e-3)
    with pytest.raises(RuntimeError):  # other features without an error would be worse
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


@torch.no_grad()
def test_a_run_that_starts_from_a_joined_network_trains_the_network_alone(tmp_path: Path) -> None:
    backbone = disturbed(RESNET)
    save_encoder(backbone, tmp_path, HOW, {})
    assert start_form(str(tmp_path)).patch_filters == 0
    for given, filters in ((None, 0), (RESNET, FILTERS)):
        start = load_start(StartConfig(name=str(tmp_path)), given)
        assert start.backbone.patch_filters == filters
        assert start.weights.keys() == backbone.with_filters(0).state_dict().keys()


def test_numbers_of_filters_and_sizes_that_cannot_be_are_refused() -> None:
    with raises("out-of-range", -1):
        BackboneConfig(patch_filters=-1)
    with raises("image-size-too-small", 4):
        BackboneConfig(patch_filters=400, image_size=4)


def test_without_a_width_only_the_filters_are_there() -> None:
    joined = JoinedFilters(0, FILTERS, (IMAGENET_MEAN, IMAGENET_STD))
    assert joined.filter_features(pixels(2, 40)).shape == (2, DIRECTIONS)
