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
            x[index] = shift_hue_(x[index], to_device(values[hue], x.device))
    return x


def blend_(x: Tensor, operation: Array, factor: Array) -> Tensor:
    """x <- clamp(f x + (1 - f) reference, 0, 1), one `operation` and factor f per image, both [B].

    The reference is black for BRIGHTNESS, the mean grey for CONTRAST and the grey image for SATURATION; HUE: no change.
    """
    rest = 1 - factor
    weights = np.stack(
        [np.where(operation == HUE, 1, factor), rest * (operation == CONTRAST), rest * (operation == SATURATION)]
    )
    keep, to_mean, to_grey = to_device(weights.astype(np.float32), x.device)[..., None, None, None]
    reference = None
    if weights[1:].any():
        grey = luma(x)
        reference = grey.mean(dim=(2, 3), keepdim=True) * to_mean
        if weights[2].any():
            reference = grey.mul_(to_grey).add_(reference)
    x.mul_(keep)
    if reference is not None:
        x.add_(reference)
    return x.clamp_(0, 1)


def luma(x: Tensor) -> Tensor:
    """[B 1 H W]: the grey value of every pixel."""
    red, green, blue = x.split(1, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def shift_hue_(x: Tensor, shift: Tensor) -> Tensor:
    """Hue turned by `shift` [B] (in turns); value and saturation of HSV stay.

    No trip through HSV, no branch per sextant. With the channels scaled to r, g, b in [0, 1] by their least and their
    span, the distance of a hue from red is 1 + g + b - r sextants, on green's side where g > b. A channel whose own hue
    lies d sextants away from h is then most - span * clamp(d - 1, 0, 1).
    """
    red, green, blue = x.unbind(1)
    least = torch.minimum(torch.minimum(red, green), blue)
    most = torch.maximum(torch.maximum(red, green), blue)
    span = most - least
    hue = (green + blue).sub_(red).sub_(least).div_(span.clamp(min=_TINY)).add_(1)
    hue = torch.copysign(hue, green - blue).add_(6 * shift[:, None, None])
    hue.sub_((hue / 6).floor_(), alpha=6)  # [0, 6)
    for channel, distance in ((red, 3 - (hue - 3).abs_()), (green, (hue - 2).abs_()), (blue, (hue - 4).abs_())):
        torch.addcmul(most, span, distance.sub_(1).clamp_(0, 1), value=-1, out=channel)
    return x


def solarise_(x: Tensor) -> Tensor:
    """Values above one half inverted.

    PIL's threshold of 128 lies between the levels 127 and 128, whose middle is one half, where x meets 1 - x.
    """
    return torch.minimum(x, 1 - x, out=x)
