"""The sizes of inputs, patches and small networks that suit stored images."""

from typing import Any

from limbeck.core.resolved import Resolved
from limbeck.models.config import MIN_SIDE, SMALL_IMAGE, BackboneConfig

CROP = 0.875  # 224 of 256, the usual fraction of the stored side that evaluation uses
UNCROPPED = 128  # pixels; images stored at this size or below are used whole
PATCHES = 8  # patches along the side of a small image, as with patches of 4 on 32 pixels
STUDENT = "resnet18"
SMALL_NETWORK = "plain_cnn"
SMALL_ARGS: dict[str, Any] = {"channels": [96, 160, 256]}
"""0.8 million parameters, 38 million multiplications at 32 pixels."""
JOINED_ARGS: dict[str, Any] = {"channels": [96, 128, 160]}
"""0.5 million parameters, with patch filters 0.96; 27 million multiplications at 32 pixels."""
FILTERS = 400
SMALL_SIDE = 96  # pixels: a fifth of the work of 224, and objects that fill the image are recognized


def resolve_small(store_size: int | None, joined: bool = False) -> Resolved[BackboneConfig]:
    """Return a small network for small images, and what that gives up next to the default.

    With `joined` its features are joined with those of patch filters, if the images are large enough for them.
    """
    usual = BackboneConfig().name
    joined = joined and (store_size is None or store_size >= MIN_SIDE)
    args = JOINED_ARGS if joined else SMALL_ARGS
    reasons = [
        f"network {SMALL_NETWORK}, convolutions of {args['channels'][0]} to {args['channels'][-1]} channels "
        f"({'0.5' if joined else '0.8'} million parameters); it can be cut at 3 depths, a ViT at each of its 12 blocks "
        f"(--backbone {usual})"
    ]
    if joined:
        reasons.append(
            f"its features are joined with those of {FILTERS} patch filters (0.5 million parameters more), since both "
            f"together are better neighbors than either (--backbone {SMALL_NETWORK})"
        )
    size = None if store_size is None else image_size(store_size)
    if size and size > SMALL_SIDE:
        reasons.append(
            f"images of {SMALL_SIDE} x {SMALL_SIDE} instead of {size} x {size}; fine detail is lost "
            f"(--backbone.image-size {size})"
        )
        size = SMALL_SIDE
    filters = FILTERS if joined else 0
    if size and size > SMALL_IMAGE:
        args = {**args, "stem_pool": "max"}
    small = BackboneConfig(name=SMALL_NETWORK, image_size=size, args=args, patch_filters=filters)
    return Resolved(small, reasons)


def image_size(store_size: int) -> int:
    """Return the input size: small images whole, up to a multiple of 4; else 7/8 of the stored side, in 16s."""
    unit = size_unit(store_size)
    if store_size <= SMALL_IMAGE:
        return -(-store_size // unit) * unit
    return round(store_size * (1 if store_size <= UNCROPPED else CROP) / unit) * unit


def size_unit(size: int) -> int:
    """Return the number that the side of an input of about `size` pixels must be a multiple of."""
    return 4 if size <= SMALL_IMAGE else 16


def small_patch(size: int) -> int:
    """Return the patch size that makes about `PATCHES` patches a side; `size` is a multiple of 4."""
    patch = size // PATCHES
    return patch if patch * PATCHES == size else 4
