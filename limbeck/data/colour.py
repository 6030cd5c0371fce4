"""Colour operations on batches [B 3 H W], float32 in [0, 1], one parameter per image; equal to torchvision's.

Names that end in `_` work in place.
"""

import numpy as np
import torch
from torch import Tensor

from limbeck.data.draw import CONTRAST, HUE, SATURATION, Array

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's: ITU-R BT.601, rounded
_TINY = 1e-12  # a colour range below this is grey: any hue does


def to_device(array: Array, device: torch.device) -> Tensor:
    """The array as a tensor on `device`, queued without waiting for it."""
    return torch.from_numpy(array).to(device, non_blocking=True)


def jitter_(x: Tensor, order: Array, factors: Array) -> Tensor:
    """Brightness, contrast, saturation, hue in each image's own order; `order` and `factors` [B 4] as in `Params`."""
    images = np.arange(len(order))
    for operation in order.T:
        values = factors[images, operation]
        hue = np.flatnonzero(operation == HUE)
        if len(hue) < len(order):
            blend_(x, operation, values)
        if len(hue) == len(order):
            shift_hue_(x, to_device(values, x.device))
        elif len(hue):
            index = to_device(hue, x.device)
            x[index] = shift_hue_(x.index_select(0, index), to_device(values[hue], x.device))
    return x


def blend_(x: Tensor, operation: Array, factor: Array) -> Tensor:
    """x <- clamp(f x + (1 - f) reference, 0, 1), one `operation` and factor f per image, both [B].

    The reference is black for BRIGHTNESS, the mean grey for CONTRAST and the grey image for SATURATION; HUE: no change.
    What no image of the batch needs is not computed, so that a batch of one pays for its own operation alone.
    """

    def per_image(values: Array) -> Tensor:
        return to_device(values.astype(np.float32), x.device)[:, None, None, None]

    contrast, saturation = operation == CONTRAST, operation == SATURATION
    keep = per_image(np.where(operation == HUE, 1, factor))
    reference = None
    if contrast.any():
        reference = luma(x.mean(dim=(2, 3), keepdim=True)) * per_image(contrast)
    if saturation.any():
        grey = luma(x) if saturation.all() else luma(x).mul_(per_image(saturation))
        reference = grey if reference is None else grey.add_(reference)
        return torch.lerp(reference, x, keep, out=x).clamp_(0, 1)
    x.mul_(keep)
    return x.clamp_(max=1) if reference is None else x.add_(reference.mul_(1 - keep)).clamp_(0, 1)


def luma(x: Tensor) -> Tensor:
    """[B 1 H W]: the grey value of every pixel."""
    red, green, blue = x.split(1, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def shift_hue_(x: Tensor, shift: Tensor) -> Tensor:
    """Hue turned by `shift` [B] (in turns, -1/2 to 1/2); value and saturation of HSV stay.

    No trip through HSV, no branch per sextant. With the channels scaled to r, g, b in [0, 1] by their least and their
    span, the distance of a hue from red is 1 + g + b - r sextants, on green's side where g > b. A channel whose own hue
    lies d sextants away from h is then most - span * clamp(d - 1, 0, 1).
    """
    red, green, blue = x.unbind(1)
    least = torch.minimum(torch.minimum(red, green), blue)
    most = torch.maximum(torch.maximum(red, green), blue)
    span = (most - least).clamp_(min=_TINY)
    hue = (green + blue).sub_(red).sub_(least).div_(span).add_(1)
    torch.copysign(hue, green - blue, out=hue)
    hue = torch.add(1 + shift[:, None, None], hue, alpha=1 / 6).frac_()  # in turns, [0, 1)
    most.add_(span)  # with d in turns, most - span * clamp(6 d - 1, 0, 1) = most + span - 6 span * clamp(d, 1/6, 1/3)
    least.sub_(span)
    torch.addcmul(least, span, (hue - 1 / 2).abs_().clamp_(1 / 6, 1 / 3), value=6, out=red)  # d = 1/2 - |hue - 1/2|
    torch.addcmul(most, span, (hue - 1 / 3).abs_().clamp_(1 / 6, 1 / 3), value=-6, out=green)
    torch.addcmul(most, span, hue.sub_(2 / 3).abs_().clamp_(1 / 6, 1 / 3), value=-6, out=blue)
    return x


def solarise_(x: Tensor) -> Tensor:
    """Values above one half inverted.

    PIL's threshold of 128 lies between the levels 127 and 128, whose middle is one half, where x meets 1 - x.
    """
    return torch.minimum(x, 1 - x, out=x)
