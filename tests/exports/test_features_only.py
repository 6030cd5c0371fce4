"""Detectors and segmenters take an export as `features_only`: its maps are those of the backbone."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing, save_encoder
from tests.helpers.folders import MEAN, NARROW, STD, VIT, disturb, images

TOLERANCE = 1e-5


def exported(folder: Path, name: str, args: dict[str, Any], cut: int | None = None) -> Backbone:
    backbone = build_backbone(BackboneConfig(name=name, image_size=32, args=args, small_stem=False))
    disturb(backbone)
    backbone = backbone.cut(cut) if cut else backbone
    save_encoder(backbone, folder, Preprocessing(image_size=32, store_size=32, mean=MEAN, std=STD), {})
    return backbone.eval()


@pytest.mark.parametrize(
    ("name", "args", "cut"),
    [
        ("resnet18", NARROW, None),
        ("resnet18", NARROW, 3),
        ("mobilenetv3_small_050", {}, None),
        ("vit_tiny_patch16_224", VIT, None),
        ("vit_tiny_patch16_224", VIT, 2),
    ],
)
def test_maps_are_those_of_the_backbone(tmp_path: Path, name: str, args: dict[str, Any], cut: int | None) -> None:
    """Those of a ViT lack its final norm in timm, for all depths the same one."""
    backbone, batch = exported(tmp_path, name, args, cut), images()
    stages = [index for index, _ in backbone._table]
    model: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, features_only=True, out_indices=stages)
    with torch.no_grad():
        expected = backbone(batch, backbone.taps, feature_maps=True).feature_maps
        found = model.eval()(batch)
        if backbone.is_vit:
            found = [backbone.model.norm(square.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for square in found]
    assert len(found) == len(expected)
    for ours, theirs in zip(expected.values(), found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=TOLERANCE, atol=TOLERANCE)
