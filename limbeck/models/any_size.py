"""Networks that take images of another shape than the one that they were built for."""

from dataclasses import replace

import torch

from limbeck.core.errors import UserError
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.surgery import timm_defaults


def any_size(backbone: Backbone) -> Backbone:
    """Return the network for images of any shape, without the patch filters that it may be joined with.

    A ViT resamples its positions; the sides of an image must be multiples of its patches. Other networks are returned
    as they are.

    Raises:
        UserError: as `check_any_size`.
    """
    check_any_size(backbone)
    plain, cfg = backbone.with_filters(0) if backbone.joined else backbone, backbone.cfg
    if not _has_one_size(cfg):
        return plain
    with torch.random.fork_rng(devices=[]):
        found = build_backbone(replace(plain.cfg, args={**cfg.args, "dynamic_img_size": True}))
    found.load_state_dict(plain.state_dict())
    return found


def check_any_size(backbone: Backbone) -> None:
    """Raise UserError if the network takes images of one size alone."""
    if _has_one_size(backbone.cfg) and not backbone.is_vit:
        name = backbone.cfg.name
        raise UserError(f"'{name}' takes images of one size: leave --videos and --revisited out", code="one-image-size")


def _has_one_size(cfg: BackboneConfig) -> bool:
    return timm_defaults(cfg.name).fixed_input_size and not cfg.args.get("dynamic_img_size")
