"""Defaults chosen from the network and the images, each with a reason that a person can read."""

from dataclasses import dataclass, replace

import timm

from limbeck.core.errors import UserError
from limbeck.data.augment.views import View
from limbeck.models.backbone import SMALL_IMAGE, BackboneConfig, build_backbone
from limbeck.models.surgery import is_vit, timm_defaults
from limbeck.train.optim import OptimConfig

CROP = 0.875  # 224 of 256, the usual share of the stored image that evaluation looks at
UNCUT = 128  # pixels; images stored at this size or less are seen whole
PATCHES = 8  # patches along the side of a small image, as a patch of 4 has on 32 pixels


STUDENT = "resnet18"
DISTILL_OPTIM = OptimConfig(lr=1e-3, weight_decay=0.01)
"""Of students, whatever their kind: AdamW, which wants less tuning than the authors' SGD at 0.03 to 0.05."""


def default_optim(backbone: str) -> OptimConfig:
    """The optimiser for a timm model: AdamW as in SDSSL and MoCo v3 for ViTs, LARS as in SimCLR for the rest."""
    if not timm.is_model(backbone) or is_vit(backbone):
        return OptimConfig()
    return OptimConfig(name="lars", lr=0.3, weight_decay=1e-6)


@dataclass(frozen=True)
class Resolved:
    """A backbone's configuration made to fit the images, and what was chosen and why."""

    backbone: BackboneConfig
    reasons: list[str]


def resolve_backbone(cfg: BackboneConfig, store_size: int) -> Resolved:
    """Fills in the size of the images and, for ViTs on small ones, of the patches, where they are not given."""
    reasons = []
    if cfg.image_size is None:
        size = image_size(store_size)
        cfg = replace(cfg, image_size=size)
        reasons.append(
            f"the network sees {size} x {size} pixels, since images are stored at {store_size} x {store_size}"
        )
    assert cfg.image_size is not None
    vit = timm.is_model(cfg.name) and is_vit(cfg.name)
    if vit and cfg.image_size <= SMALL_IMAGE and "patch_size" not in cfg.args and not cfg.pretrained:
        patch = small_patch(cfg.image_size)
        cfg = replace(cfg, args={**cfg.args, "patch_size": patch})
        reasons.append(f"patches of {patch} x {patch}, since patches of 16 are too coarse for {cfg.image_size} pixels")
    return Resolved(cfg, reasons)


def resolve_views(cfg: BackboneConfig, views: tuple[View, ...]) -> Resolved:
    """A ViT that resamples its positions, where views have another size than its own; CNNs take any size as they are.

    Raises UserError for a network that takes one size alone, and for a view that is no multiple of the patch.
    """
    others = sorted({view.size for view in views} - {cfg.image_size})
    if not others or not timm_defaults(cfg.name).fixed_input_size:
        return Resolved(cfg, [])
    if not is_vit(cfg.name):
        raise UserError(
            f"'{cfg.name}' takes images of {cfg.image_size} pixels alone and there are views of {others[0]}; "
            "take a ViT or a ResNet"
        )
    cfg = replace(cfg, args={**cfg.args, "dynamic_img_size": True})
    patch = build_backbone(cfg).model.patch_embed.patch_size[0]
    for size in others:
        if size % patch:
            raise UserError(
                f"views of {size} pixels are no multiple of '{cfg.name}'s patch size {patch}; "
                "take patch_size 8 or a CNN"
            )
    return Resolved(cfg, [f"positions are resampled for the views of {', '.join(map(str, others))} pixels"])


def image_size(store_size: int) -> int:
    """Pixels that the network sees: small images whole, up to a multiple of 4; else 7/8 of the stored side, of 16."""
    if store_size <= SMALL_IMAGE:
        return -(-store_size // 4) * 4
    return round(store_size * (1 if store_size <= UNCUT else CROP) / 16) * 16


def small_patch(size: int) -> int:
    """The patch that makes about `PATCHES` patches a side; `size` is a multiple of 4."""
    patch = size // PATCHES
    return patch if patch * PATCHES == size else 4
