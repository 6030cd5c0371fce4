"""Large views on a CPU: one image at a time, plane by plane, in buffers that stay in a second-level cache.

The operations are those of `apply` and `color`; the memory that they pass over is what they cost. So pixels are
counted in units of 1/64 gray level, the hue turns in 16-bit integers of them, a gray image has one plane, and the
last operation writes to the result.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.augment.blur import PlaneBlur
from limbeck.data.augment.color import LUMA
from limbeck.data.augment.draw_parameters import BRIGHTNESS, CONTRAST, HUE, Array, Params
from limbeck.data.augment.views import View

_UNITS = 64  # of a gray level: twice white still is a 16-bit integer
_WHITE = 255 * _UNITS


class _Draw(NamedTuple):
    """The parameters of one image; see `Params`."""

    box: list[int]
    flip: bool
    jitter: bool
    order: list[int]
    factors: list[float]
    grayscale: bool
    blur: bool
    sigma: float
    solarize: bool


class Planes:
    """The buffers of an image of `size` pixels, used again for the next one."""

    def __init__(self, size: int) -> None:
        self.levels = torch.empty(3, size, size, dtype=torch.uint8)
        self.x = torch.empty(3, size, size)
        self.gray = torch.empty(size, size)
        self.parts = np.empty((7, size, size), np.int16)
        self.blur = PlaneBlur(size)


def view_planes(
    images: Tensor, view: View, params: Params, mean: Sequence[float], std: Sequence[float], out: Tensor
) -> None:
    """Write one view of every image to `out` [B 3 size size], normalized; `images` [B S S 3] uint8 are on the CPU."""
    planes = Planes(view.size)
    scales = [1 / (_WHITE * spread) for spread in std]
    offsets = [torch.tensor(-center / spread) for center, spread in zip(mean, std, strict=True)]
    draws = map(_Draw._make, zip(*(field.tolist() for field in params), strict=True))
    for image, draw, normalized in zip(images, draws, out, strict=True):
        _crop(image, draw, view, planes.levels.numpy())
        colors = _colored(draw, planes)
        blur = planes.blur.of(draw.sigma) if draw.blur else None
        for channel, target in enumerate(normalized):
            if channel < len(colors):
                plane = blur(colors[channel]) if blur else colors[channel]
                plane = torch.minimum(plane, _WHITE - plane) if draw.solarize else plane
            torch.add(offsets[channel], plane, alpha=scales[channel], out=target.view(plane.shape))


def _crop(image: Tensor, draw: _Draw, view: View, levels: Array) -> None:
    """Write the resized box of an image [S S 3] to `levels` [3 size size], mirrored or not."""
    top, left, height, width = draw.box
    box = image.permute(2, 0, 1)[None, :, top : top + height, left : left + width]
    resized = F.interpolate(box, (view.size, view.size), mode=view.interpolation, antialias=True)[0].numpy()
    np.copyto(levels, resized[:, :, ::-1] if draw.flip else resized)


def _colored(draw: _Draw, planes: Planes) -> Sequence[Tensor]:
    """Return the planes [size size] of the image in units: three, or one of a gray image."""
    x, units = planes.x.copy_(planes.levels), _UNITS
    for operation in draw.order if draw.jitter else ():
        factor = draw.factors[operation]
        if operation != HUE:
            _blend_(x, operation, factor, units, planes.gray)
        elif factor:
            _turn_(x, factor, units, planes.parts)
        else:
            continue
        units = 1  # only the first operation counts levels
    if units > 1:
        x.mul_(units)
    return [_luma(x, 1, planes.gray)] if draw.grayscale else x.unbind()


def _blend_(x: Tensor, operation: int, factor: float, units: int, gray: Tensor) -> None:
    """Blend [3 S S] in place with black, its mean gray or itself in gray, times `units`, clamp; see `color.blend_`."""
    keep, rest = factor * units, (1 - factor) * units
    if operation == BRIGHTNESS:
        x.mul_(keep)
    elif operation == CONTRAST:
        mean = sum(share * value for share, value in zip(LUMA, x.mean(dim=(1, 2)).tolist(), strict=True))
        torch.add(torch.tensor(rest * mean), x, alpha=keep, out=x)
    else:
        torch.add(_luma(x, rest, gray), x, alpha=keep, out=x)
    if factor > 1:
        x.clamp_(0, _WHITE)


def _luma(x: Tensor, factor: float, out: Tensor) -> Tensor:
    """Write `factor` times the gray values of [3 S S] to `out` [S S]."""
    red, green, blue = x.unbind()
    torch.mul(red, factor * LUMA[0], out=out)
    return out.add_(green, alpha=factor * LUMA[1]).add_(blue, alpha=factor * LUMA[2])


def _turn_(x: Tensor, shift: float, units: int, parts: Array) -> None:
    """Rotate the hue of [3 S S] by `shift` turns, times `units`, by the formula of `color._turn_`, in `parts`."""
    thirds = round(3 * shift)
    sextants = 6 * shift - 2 * thirds
    step = -1 if sextants < 0 else 1
    colors, (least, most, span, pivot) = parts[:3], parts[3:]
    torch.from_numpy(colors).copy_(x.mul_(units) if units > 1 else x)
    np.minimum(np.minimum(colors[0], colors[1], out=least), colors[2], out=least)
    np.maximum(np.maximum(colors[0], colors[1], out=most), colors[2], out=most)
    np.subtract(most, least, out=span)
    np.multiply(span, np.float32(abs(sextants)), out=pivot, casting="unsafe")
    np.add(pivot, least, out=pivot)
    for channel, plane in enumerate(x):
        own = channel - thirds
        following, previous = colors[(own + step) % 3], colors[(own - step) % 3]
        fall = span  # which is not needed any more
        np.abs(np.subtract(previous, pivot, out=fall), out=fall)
        np.add(np.subtract(fall, colors[own % 3], out=fall), following, out=fall)
        np.maximum(np.subtract(most, fall, out=fall), least, out=fall)
        plane.copy_(torch.from_numpy(np.minimum(fall, most, out=fall)))
