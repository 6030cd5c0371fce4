"""Choose the input size, the patch size and the handling of positions of a backbone, each with its reason."""

from collections.abc import Sequence
from dataclasses import replace

import timm
import torch

from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.data.augment.views import View
from limbeck.data.sampling import ViewSpec
from limbeck.methods import MethodConfig
from limbeck.modalities.images.sizes import image_size, size_unit, small_patch
from limbeck.models.backbone import build_backbone, build_network, check_name
from limbeck.models.config import SMALL_IMAGE, BackboneConfig
from limbeck.models.patch_drop import check_patch_drop
from limbeck.models.surgery import is_vit, timm_defaults


def input_size(cfg: BackboneConfig) -> int:
    """Return the side of the network's input in pixels; unless it is configured, that of timm's weights."""
    return cfg.image_size or int(timm_defaults(cfg.name).input_size[-1])


def known_depths(cfg: BackboneConfig) -> tuple[int, ...]:
    """Return the depths of a network before its input size is chosen; none if it can only be built with that size.

    Raises:
        UserError: timm has no such model or cannot build it, or it has no such cut.
    """
    check_name(cfg.name)
    waits = cfg.image_size is None and bool(timm_defaults(cfg.name).fixed_input_size)
    with torch.random.fork_rng(devices=[]):
        try:
            return build_backbone(cfg).taps
        except UserError as error:
            if waits and error.code in ("invalid-backbone-arguments", "image-size-not-a-multiple-of-patch-size"):
                return ()
            raise


def resolve_backbone(cfg: BackboneConfig, store_size: int) -> Resolved[BackboneConfig]:
    """Fill in the input size and, for ViTs on small images, the patch size, if they are not given."""
    reasons = []
    size = cfg.image_size
    if size is None:
        size = image_size(store_size)
        reasons.append(f"input size {size} x {size}, for images stored at {store_size} x {store_size}")
    cfg = replace(cfg, image_size=size)
    vit = timm.is_model(cfg.name) and is_vit(cfg.name)
    if vit and size <= SMALL_IMAGE and "patch_size" not in cfg.args:
        patch = small_patch(size)
        cfg = replace(cfg, args={**cfg.args, "patch_size": patch})
        reasons.append(f"patch size {patch} x {patch}, since patches of 16 are too coarse for {size} pixels")
    return Resolved(cfg, reasons)


def with_small_views(views: tuple[ViewSpec, ...], scale: float, cfg: BackboneConfig) -> tuple[ViewSpec, ...]:
    """Return the views, those of the student with `small` ones of about `scale` times their side.

    Crop, flip and colors stay, and the blur is as wide in the image as before. Sides are multiples of the patch size of
    a ViT, or of what `image_size` rounds to. A teacher sees the pixels that it always does.

    Raises:
        UserError: no view has a smaller size.
    """
    unit = _unit(cfg)
    made = tuple(replace(view, small=_small(view, scale, unit)) for view in views)
    if not any(view.small for view in made):
        raise UserError(
            f"progressive resizing has no effect: no multiple of {unit} pixels below {views[0].augmentation.size} is "
            f"near {scale:g} of it; leave --progressive-resizing out",
            code="no-effect",
        )
    return made


def _unit(cfg: BackboneConfig) -> int:
    """Return the number that the side of a view must be a multiple of."""
    if not is_vit(cfg.name):
        return size_unit(input_size(cfg))
    with torch.random.fork_rng(devices=[]):
        return int(build_network(cfg).patch_embed.patch_size[0])


def _small(view: ViewSpec, scale: float, unit: int) -> View | None:
    """Return the smaller augmentation of a view; None for the teacher, or where the size would be the same."""
    full = view.augmentation
    size = max(unit, round(scale * full.size / unit) * unit)
    if view.network != "student" or size >= full.size:
        return None
    low, high = (sigma * size / full.size for sigma in full.blur_sigma)
    return replace(full, size=size, blur_sigma=(low, high))


def check_patch_drop_with(cfg: BackboneConfig, method: MethodConfig) -> None:
    """Raise UserError unless the network is a ViT that may drop patches, and the method compares no feature maps."""
    check_patch_drop(cfg.name)
    flags = [name for name in ("dense_weight", "range") if getattr(method, name, None)]
    if flags:
        flag = f"--method.{flags[0].replace('_', '-')}"
        raise UserError(
            f"{flag} compares whole feature maps, which --patch-drop-rate leaves holes in: leave one of them out",
            code="no-feature-maps",
        )


def resolve_positions(cfg: BackboneConfig, views: Sequence[ViewSpec]) -> Resolved[BackboneConfig]:
    """Let a ViT resample its positions if views have another size than its own; CNNs take any size as they are.

    Raises:
        UserError: the network takes one size only, or a view is not a multiple of the patch size.
    """
    sizes = {one.size for view in views for one in (view.augmentation, view.small) if one}
    others = sorted(sizes - {cfg.image_size})
    if not others or not timm_defaults(cfg.name).fixed_input_size:
        return Resolved(cfg, [])
    if not is_vit(cfg.name):
        raise UserError(
            f"'{cfg.name}' takes images of {cfg.image_size} pixels only and the run has views of {others[0]}, by its "
            "method or by --progressive-resizing: choose a ViT or a ResNet",
            code="view-size",
        )
    cfg = replace(cfg, args={**cfg.args, "dynamic_img_size": True})
    patch = build_backbone(cfg).model.patch_embed.patch_size[0]
    for size in others:
        if size % patch:
            raise UserError(
                f"the run has views of {size} pixels, which is not a multiple of the patch size {patch} of "
                f"'{cfg.name}': choose patch_size 8, another --method.local-crop-size or a CNN",
                code="view-size",
            )
    return Resolved(cfg, [f"positions are resampled for the views of {', '.join(map(str, others))} pixels"])
