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

    No trip through HSV: with h the hue in sextants, a channel is least + range * clamp(a + s |h - m|, 0, 1), where
    (a, s, m) is (-1, 1, 3) for red, (2, -1, 2) for green and (2, -1, 4) for blue (Smith, SIGGRAPH 1978, unrolled).
    """
    red, green, blue = x.unbind(1)
    least, most = torch.aminmax(x, dim=1)
    span = most - least
    sextant = torch.where(
        most == red,
        green - blue,
        torch.where(most == green, (blue - red).add_(span, alpha=2), (red - green).add_(span, alpha=4)),
    )
    sextant.div_(span.clamp(min=_TINY)).add_(6 * shift[:, None, None])
    sextant.sub_((sextant / 6).floor_(), alpha=6)
    for channel, (offset, sign, middle) in zip((red, green, blue), ((-1, 1, 3), (2, -1, 2), (2, -1, 4)), strict=True):
        share = (sextant - middle).abs_().mul_(sign).add_(offset).clamp_(0, 1)
        torch.addcmul(least, span, share, out=channel)
    return x


def solarise_(x: Tensor) -> Tensor:
    """Values of at least 128/255 inverted, as PIL's and torchvision's `solarize` with threshold 128."""
    return torch.where(x >= 128 / 255, 1 - x, x, out=x)
