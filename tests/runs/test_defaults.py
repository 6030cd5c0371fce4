"""A network is made to fit the views of a method, or refused in a sentence."""

import pytest
import torch

from limbeck.core.errors import UserError
from limbeck.data.augment.views import View, preset
from limbeck.models.backbone import BackboneConfig, build_backbone
from limbeck.runs.defaults import resolve_views


def test_a_vit_resamples_its_positions_for_small_crops() -> None:
    args = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    views = preset("multicrop", 64)
    fitted = resolve_views(BackboneConfig(image_size=64, args=args), views)
    backbone = build_backbone(fitted.backbone)
    assert {view.size for view in views} == {64, 24}
    assert all(backbone(torch.randn(2, 3, view.size, view.size)).final.shape == (2, 16) for view in views)
    assert fitted.reasons == ["positions are resampled for the views of 24 pixels"]


@pytest.mark.parametrize(("name", "views"), [("vit_tiny_patch16_224", "simclr"), ("resnet18", "multicrop")])
def test_a_network_that_fits_stays_as_it_is(name: str, views: str) -> None:
    cfg = BackboneConfig(name=name, image_size=64)
    assert resolve_views(cfg, preset(views, 64)).backbone == cfg


def test_what_cannot_see_the_views_is_refused() -> None:
    small = (View(size=64), View(size=24))
    with pytest.raises(UserError, match="views of 24 pixels are no multiple of 'vit_tiny_patch16_224's patch size 16"):
        resolve_views(BackboneConfig(image_size=64, args={"depth": 1}), small)
    with pytest.raises(UserError, match="'swin_tiny_patch4_window7_224' takes images of 64 pixels alone"):
        resolve_views(BackboneConfig(name="swin_tiny_patch4_window7_224", image_size=64), small)
