"""Sample the parameters of views without a generator: every number is a hash of (seed, epoch, view, row, counter).

The view of an image is therefore independent of the batch size, the order, the device and the number of workers and
processes, and a resumed run draws the same views as an uninterrupted one.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from limbeck.data.augment.views import View

Array = npt.NDArray[Any]
Rows = Array | Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)

# Which of the uniform numbers of an image decides what. Append only: a changed counter changes every seeded run.
_AREA, _RATIO, _CORNER = slice(0, 10), slice(10, 20), slice(20, 22)  # ten tries, as torchvision
_FLIP, _JITTER, _ORDER, _FACTOR = 22, 23, slice(24, 28), slice(28, 32)
_GRAY, _BLUR, _SIGMA, _SOLARIZE = 32, 33, 34, 35
_COUNT = 36


class Params(NamedTuple):
    """One set of parameters per image, on the host, where they decide the control flow of `augment`."""

    box: Array  # [B 4] int64: top, left, height, width of the crop, in store pixels
    flip: Array  # [B] bool
    jitter: Array  # [B] bool
    order: Array  # [B 4] int64: the order of BRIGHTNESS, CONTRAST, SATURATION and HUE
    factors: Array  # [B 4] float32: factors of brightness, contrast, saturation; shift of hue in turns
    grayscale: Array  # [B] bool
    blur: Array  # [B] bool
    sigma: Array  # [B] float32, pixels
    solarize: Array  # [B] bool

    def part(self, start: int, stop: int) -> "Params":
        """Return the parameters of images `start` to `stop` (exclusive)."""
        return Params(*(field[start:stop] for field in self))


def sample_params(
    view: View, view_index: int, rows: Rows, widths: Rows, heights: Rows, store_size: int, seed: int, epoch: int
) -> Params:
    """Sample view number `view_index` of the store rows `rows` [B], with the distributions of torchvision's transforms.

    `widths` and `heights` [B] are the original sizes in pixels: crops are drawn there, in whole pixels, and then mapped
    to the grid of the store (`store_size` pixels squared), again in whole pixels. Where the original has the size of
    the store, the crop is exactly one of torchvision's `RandomResizedCrop`; elsewhere an edge moves by at most half a
    store pixel.
    """
    u = hash_uniforms(seed, epoch, view_index, np.asarray(rows), _COUNT)
    size = np.stack([np.asarray(heights), np.asarray(widths)], axis=1)
    low = [max(0.0, 1 - strength) for strength in view.jitter[:3]] + [-view.jitter[3]]
    high = [1 + strength for strength in view.jitter[:3]] + [view.jitter[3]]
    return Params(
        box=_to_store(_crop(view, u, size), size, store_size),
        flip=u[:, _FLIP] < view.flip,
        jitter=u[:, _JITTER] < view.jitter_p,
        order=u[:, _ORDER].argsort(axis=1),
        factors=_between(np.array(low), np.array(high), u[:, _FACTOR]).astype(np.float32),
        grayscale=u[:, _GRAY] < view.grayscale,
        blur=u[:, _BLUR] < view.blur,
        sigma=_between(*view.blur_sigma, u[:, _SIGMA]).astype(np.float32),
        solarize=u[:, _SOLARIZE] < view.solarize,
    )


def hash_uniforms(seed: int, epoch: int, view_index: int, rows: Array, count: int) -> Array:
    """Return [B count] float64 in [0, 1): the first `count` numbers of one SplitMix64 generator per row.

    A generator starts from the hash of (seed, epoch, view_index, row). Source: Steele, Lea and Flood, OOPSLA 2014.
    """
    state = np.zeros(1, np.uint64)
    for word in (seed, epoch, view_index):
        state = _mix(state + _GOLDEN + np.array([word % 2**64], np.uint64))
    state = _mix(state + _GOLDEN + rows.astype(np.uint64))
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return (_mix(state[:, None] + steps) >> np.uint64(11)) * 2.0**-53


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio, made odd


def _mix(x: Array) -> Array:
    """Apply the finalizer of SplitMix64, a bijection of 64-bit words: every input bit affects every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _between(low: Any, high: Any, u: Array) -> Array:
    return low + (high - low) * u


def _crop(view: View, u: Array, size: Array) -> Array:
    """Return [B 4] (top, left, height, width) in original pixels; `size` [B 2] is (height, width).

    The crop is the first of ten random boxes that fits, or else the largest central box of an allowed ratio.
    """
    area = size.prod(axis=1, keepdims=True) * _between(*view.scale, u[:, _AREA])
    narrow, wide = np.log(view.ratio)
    ratio = np.exp(_between(narrow, wide, u[:, _RATIO]))
    tries = np.rint(np.sqrt(np.stack([area / ratio, area * ratio], axis=2)))  # [B tries 2]
    fits = ((tries > 0) & (tries <= size[:, None])).all(axis=2)
    first = tries[np.arange(len(size)), fits.argmax(axis=1)]
    height, width = size.T
    central = np.stack(
        [np.minimum(height, np.rint(width / view.ratio[0])), np.minimum(width, np.rint(height * view.ratio[1]))], axis=1
    )
    found = fits.any(axis=1, keepdims=True)
    extent = np.where(found, first, central)
    corner = np.where(found, np.floor(u[:, _CORNER] * (size - extent + 1)), (size - extent) // 2)
    return np.concatenate([corner, extent], axis=1).astype(np.int64)


def _to_store(box: Array, size: Array, store_size: int) -> Array:
    """Map boxes to the grid of the store: edges at the nearest pixel, at least one pixel high and wide."""
    scale = store_size / size
    start = np.minimum(np.rint(box[:, :2] * scale), store_size - 1)
    stop = np.maximum(np.rint((box[:, :2] + box[:, 2:]) * scale), start + 1)
    return np.concatenate([start, stop - start], axis=1).astype(np.int64)
