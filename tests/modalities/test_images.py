"""A backbone is made to fit the images and the views of a method, or refused."""

import pytest
import torch

from limbeck.data.augment.views import View, preset
from limbeck.data.sampling import view_specs
from limbeck.modalities import find_modality, modalities, modality_of
from limbeck.modalities.images.resolve import input_size, resolve_backbone, resolve_positions
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from tests.helpers.errors import raises


@pytest.mark.parametrize(
    ("stored", "input_side", "patch"), [(28, 28, 4), (32, 32, 4), (64, 64, 8), (96, 96, None), (256, 224, None)]
)
def test_sizes_are_chosen_for_the_stored_images(stored: int, input_side: int, patch: int | None) -> None:
    resolved = resolve_backbone(BackboneConfig(), stored)
    assert (resolved.value.image_size, resolved.value.args.get("patch_size")) == (input_side, patch)
    assert str(stored) in resolved.reasons[0]
    assert len(resolved.reasons) == 1 + (patch is not None)


def test_given_sizes_stay_without_a_reason() -> None:
    cfg = BackboneConfig(image_size=32, args={"patch_size": 8})
    assert resolve_backbone(cfg, 256) == (cfg, [])


def test_a_size_that_is_not_configured_is_that_of_the_weights() -> None:
    assert input_size(BackboneConfig(name="resnet18")) == 224
    assert input_size(BackboneConfig(name="resnet18", image_size=32)) == 32


def test_a_vit_resamples_its_positions_for_small_crops() -> None:
    args = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    views = preset("multicrop", 64)
    resolved = resolve_positions(BackboneConfig(image_size=64, args=args), view_specs(views))
    backbone = build_backbone(resolved.value)
    assert {view.size for view in views} == {64, 24}
    assert all(backbone(torch.randn(2, 3, view.size, view.size)).final.shape == (2, 16) for view in views)
    (reason,) = resolved.reasons
    assert "24" in reason


@pytest.mark.parametrize(("name", "views"), [("vit_tiny_patch16_224", "simclr"), ("resnet18", "multicrop")])
def test_a_network_that_fits_is_not_changed(name: str, views: str) -> None:
    cfg = BackboneConfig(name=name, image_size=64)
    assert resolve_positions(cfg, view_specs(preset(views, 64))) == (cfg, [])


@pytest.mark.parametrize(
    ("cfg", "values"),
    [
        (BackboneConfig(image_size=64, args={"depth": 1}), ("24", "patch size 16")),
        (BackboneConfig(name="swin_tiny_patch4_window7_224", image_size=64), ("swin_tiny", "64", "24")),
    ],
)
def test_a_network_that_cannot_take_the_views_is_refused(cfg: BackboneConfig, values: tuple[str, ...]) -> None:
    with raises("view-size", *values):
        resolve_positions(cfg, view_specs((View(size=64), View(size=24))))


def test_images_are_the_modality_of_every_unknown_name_and_source() -> None:
    images = modalities()[-1]
    assert images.name == "images"
    assert find_modality("anything") is find_modality(encoder="anything") is modality_of(BackboneConfig()) is images
