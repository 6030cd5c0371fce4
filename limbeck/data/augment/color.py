"""Color operations on batches [B 3 H W], float32 in [0, 1], one parameter per image; equal to torchvision's.

Functions whose names end in `_` modify their input.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.data.augment.draw import BRIGHTNESS, CONTRAST, HUE, SATURATION, Array

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's: ITU-R BT.601, rounded


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
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).unsqueeze(1)


def shift_hue_(x: Tensor, shift: Array) -> Tensor:
    """Rotate the hue by `shift` [B] turns, from -1/2 to 1/2; value and saturation of HSV do not change.

    A third of a turn permutes the channels; the rest is at most a sextant forwards or backwards (see `_turn_`).
    """
    thirds = np.rint(3 * shift).astype(np.int64)
    sextants = 6 * shift - 2 * thirds
    turned = shift != 0
    case = 2 * thirds + (sextants < 0)
    for value in set(case[turned].tolist()):
        turn = partial(_turn_, third=value // 2, back=value % 2 == 1, sextants=np.abs(sextants))
        on_rows(x, turned & (case == value), turn)
    return x


def _turn_(x: Tensor, rows: Array, third: int, back: bool, sextants: Array) -> Tensor:
    """Rotate the hue by `third` thirds and then by `sextants[rows]` [B] in [0, 1], backwards if `back`.

    This needs no conversion to HSV, no division and no case per sextant. A turn by t sextants maps a channel c to

        most + c - n - |p - (least + t span)|, clamped to [least, most],

    with n the next and p the previous channel in the direction of the turn. (Around the hexagon of hues, c, n and p are
    the same trapezoid, shifted; the formula follows from its edges, and the test checks each of them.)
    """
    planes = x.unbind(1)
    least = torch.minimum(torch.minimum(planes[0], planes[1]), planes[2])
    most = torch.maximum(torch.maximum(planes[0], planes[1]), planes[2])
    pivot = torch.lerp(least, most, _per_image(sextants[rows], least))
    step = -1 if back else 1
    falls = []  # most - channel, before the clamp
    for channel in range(3):
        own, following, previous = (planes[(channel - third + k) % 3] for k in (0, step, -step))
        falls.append((previous - pivot).abs_().sub_(own).add_(following))
    for fall, plane in zip(falls, planes, strict=True):
        torch.clamp(torch.sub(most, fall, out=fall), least, most, out=plane)
    return x


def solarize_(x: Tensor) -> Tensor:
    """Invert values above one half, in place.

    PIL's threshold of 128 lies between the levels 127 and 128, whose middle is one half, where x meets 1 - x.
    """
    return torch.minimum(x, 1 - x, out=x)
