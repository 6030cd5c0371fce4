"""Color operations on batches [B 3 H W], float32 in [0, 1], one parameter per image; equal to torchvision's.

Functions whose names end in `_` modify their input.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.data.augment.draw_parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Array

LUMA = (0.2989, 0.587, 0.114)  # torchvision's: ITU-R BT.601, rounded


def to_device(array: Array, device: torch.device) -> Tensor:
    """Copy the array to `device` without waiting for the copy."""
    return torch.from_numpy(array).to(device, non_blocking=True)


def on_rows(x: Tensor, chosen: Array, operation: Callable[[Tensor, Array], Tensor]) -> Tensor:
    """Apply `operation(images, rows)` to the `chosen` [B] images of `x`; it may overwrite `x`."""
    rows = np.flatnonzero(chosen)
    if len(rows) == 0:
        return x
    if len(rows) == len(x):
        return operation(x, rows)
    index = to_device(rows, x.device)
    return x.index_copy_(0, index, operation(x.index_select(0, index), rows))


def jitter_(x: Tensor, order: Array, factors: Array) -> Tensor:
    """Jitter brightness, contrast, saturation and hue; `order` and `factors` [B 4] are those of `Params`."""
    images = np.arange(len(order))
    for operation in order.T:
        factor = factors[images, operation]
        kinds = set(operation.tolist())
        if kinds != {HUE}:
            blend_(x, operation, factor)
        if HUE in kinds:
            shift_hue_(x, np.where(operation == HUE, factor, 0))
    return x


def blend_(x: Tensor, operation: Array, factor: Array) -> Tensor:
    """Blend in place: x <- clamp(f x + (1 - f) reference, 0, 1), with one `operation` and factor f per image, both [B].

    The reference is black for BRIGHTNESS, the mean gray for CONTRAST and the gray image for SATURATION; HUE changes
    nothing. References that no image of the batch needs are not computed.
    """
    kinds = set(operation.tolist())
    keep = _per_image(np.where(operation == HUE, 1, factor) if HUE in kinds else factor, x)
    if kinds <= {BRIGHTNESS, HUE}:
        return _clamp_(x.mul_(keep), factor)
    if kinds == {CONTRAST}:
        reference = luma(x.mean(dim=(2, 3), keepdim=True))
    else:
        reference = luma(x)
        if kinds != {SATURATION}:
            mean = reference.mean(dim=(2, 3), keepdim=True).mul_(_per_image(operation == CONTRAST, x))
            reference.mul_(_per_image(operation == SATURATION, x)).add_(mean)
    return _clamp_(torch.lerp(reference, x, keep, out=x), factor)


def _clamp_(x: Tensor, factor: Array) -> Tensor:
    """Clamp the blend `x` to [0, 1]; factors of at most 1 cannot leave that range."""
    return x.clamp_(0, 1) if factor.max() > 1 else x


def _per_image(values: Array, like: Tensor) -> Any:
    """Reshape [B] numbers to broadcast with `like`; one image gets a Python number, which halves torch's overhead."""
    if len(values) == 1:
        return float(values[0])
    return to_device(values.astype(np.float32), like.device).view(-1, *[1] * (like.ndim - 1))


def luma(x: Tensor) -> Tensor:
    """Return the gray value of every pixel, [B 1 H W]."""
    red, green, blue = x.unbind(1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(1)


def shift_hue_(x: Tensor, shift: Array) -> Tensor:
    """Rotate the hue by `shift` [B] turns, from -1/2 to 1/2; value and saturation of HSV do not change."""
    return on_rows(x, shift != 0, lambda some, rows: _turn_(some, shift[rows]))


def _turn_(x: Tensor, shift: Array) -> Tensor:
    """Rotate the hue of every image: a third of a turn permutes the channels, the rest is at most a sextant.

    This needs no conversion to HSV, no division and no case per sextant. A turn by t sextants, forwards or backwards,
    maps a channel c to

        most + c - n - |p - (least + t span)|, clamped to [least, most],

    with n the next and p the previous channel in the direction of the turn. (Around the hexagon of hues, c, n and p are
    the same trapezoid, shifted; the formula follows from its edges, and the test checks each of them.)
    """
    thirds = np.rint(3 * shift)
    sextants = 6 * shift - 2 * thirds
    own = np.arange(3) - thirds.astype(np.int64)[:, None]  # [B 3]
    step = np.where(sextants < 0, -1, 1)[:, None]
    red, green, blue = x.split(1, dim=1)
    least = torch.minimum(torch.minimum(red, green), blue)
    most = torch.maximum(torch.maximum(red, green), blue)
    pivot = torch.lerp(least, most, _per_image(np.abs(sextants), least))
    targets, channels = _parts(x, np.stack([own, own + step, own - step]) % 3)
    falls = [(p - pivot).abs_().sub_(c).add_(n) for c, n, p in zip(*channels, strict=True)]  # most - c, unclamped
    for fall, target in zip(falls, targets, strict=True):
        torch.clamp(torch.sub(most, fall, out=fall), least, most, out=target)
    return x


def _parts(x: Tensor, channels: Array) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, ...]]]:
    """Return the parts in which the channels of [B 3 H W] are computed, and for each of K `channels` [K B 3] its parts.

    Where all images need the same ones, a part is a channel, a view of `x`. Otherwise it is the whole, copied K times.
    """
    if (channels == channels[:, :1]).all():
        planes = x.split(1, dim=1)
        return planes, [tuple(planes[channel] for channel in some) for some in channels[:, 0].tolist()]
    rows = to_device((channels + 3 * np.arange(len(x))[:, None]).reshape(len(channels), -1), x.device)
    return (x,), [(x.flatten(0, 1).index_select(0, some).view_as(x),) for some in rows]


def solarize_(x: Tensor) -> Tensor:
    """Invert values above one half, in place.

    PIL's threshold of 128 lies between the levels 127 and 128, whose middle is one half, where x meets 1 - x.
    """
    return torch.minimum(x, 1 - x, out=x)
