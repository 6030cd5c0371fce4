"""Augment batches: pure functions (images, parameters) -> images, on the device of the images.

Every operation equals torchvision's functional operation on float tensors, with clamps to [0, 1] in the same places;
`tests/data/augment/test_apply.py` states the tolerances.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import as_strided
from torch import Tensor

from limbeck.data.augment.color import jitter_, luma, on_rows, solarize_, to_device
from limbeck.data.augment.draw import Array, Params
from limbeck.data.augment.resample import resample
from limbeck.data.augment.views import View

# Pixel values (floats) that are processed at once. On a CPU, they and their temporaries fit into a second-level cache
# of 2 MB (85 images of 32 px, one of 224 px; four times as many cost 15 to 30 % at 224 px, a quarter as many 40 % at
# 32 px). Elsewhere, the temporaries stay below about 2 GB.
_CHUNK = {"cpu": 2**18}
_LARGE_CHUNK = 2**26

BLUR_RADIUS = 11  # 23 taps, BYOL's kernel at 224 px (table 6): more than 5 deviations of sigma <= 2, at any size
_NEGLIGIBLE = 1e-9  # taps below it are dropped: subnormal ones made the products ten times slower
_TILE = 16  # pixels blurred by one matrix product; measured at 224 px


def augment(images: Tensor, view: View, params: Params, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Compute one view of every image: [B S S 3] uint8 -> [B 3 size size] float32, normalized by `mean` and `std` [3].

    The result is on the device of `images`; `params` come from `sample_params`.
    """
    out = torch.empty(len(images), 3, view.size, view.size, device=images.device)
    side = max(view.size, images.shape[1]) if view.jitter_first else view.size
    chunk = max(1, _CHUNK.get(images.device.type, _LARGE_CHUNK) // (3 * side * side))
    # A call of torch is cheaper without autograd, and `out` is a tensor as any other. The tests have fake GPUs only.
    with torch.inference_mode(images.device.type == "cpu"):
        for start in range(0, len(images), chunk):
            stop = start + chunk
            x = _view(images[start:stop], view, params.part(start, stop))
            _normalize(x, mean, std, out[start:stop])
    return out


def central_side(store: int, size: int) -> int:
    """Return the side of the central square that `eval_view` shows of a store with images of `store` pixels."""
    return min(store, max(size, store * 7 // 8))


def eval_view(
    images: Tensor,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> Tensor:
    """Compute the deterministic central view: [B S S 3] uint8 -> [B 3 size size] float32, normalized.

    A store larger than `size` is cropped to its central 7/8 (224 of 256 px, the usual evaluation), but to no fewer than
    `size` pixels. A store of `size` pixels or fewer is used whole. The crop is resized to `size` where it differs.
    """
    store = images.shape[1]
    side = central_side(store, size)
    corner = (store - side) // 2
    box = np.tile(np.array([corner, corner, side, side]), (len(images), 1))
    x = resample(images.permute(0, 3, 1, 2), box, np.zeros(len(images), bool), size, interpolation)
    _normalize(x, mean, std, out=x)
    return x


def blur(x: Tensor, sigma: Array) -> Tensor:
    """Blur [B C S S] with a Gaussian of `sigma` [B] pixels, 2 * BLUR_RADIUS + 1 taps and reflected borders.

    Taps beyond five standard deviations of every image (less than 1e-6 of the sum) are left out. The blur is two
    products with banded matrices, in tiles of the band, first along rows of pixels, then along columns: 0.4 ms at
    224 px on one core, where two depthwise convolutions take 1.8 ms and two dense matrices 0.9 ms.
    """
    batch, channels, size, _ = x.shape
    radius = min(BLUR_RADIUS, size - 1, math.ceil(5 * sigma.max()))
    tiles = math.ceil(size / _TILE)
    tile = math.ceil(size / tiles)
    taps, height = tile + 2 * radius, tiles * tile
    bands = to_device(_bands(sigma, radius, tile), x.device)
    bands = bands[:, None].expand(-1, tiles, -1, -1).flatten(0, 1)  # the same in all tiles
    after = radius + height - size
    padded = F.pad(x, (radius, after, radius, after), mode="reflect").flatten(1, 2)  # [B C*P P]
    columns = padded.unfold(2, taps, tile).transpose(1, 2)  # [B tiles C*P taps]
    columns = torch.bmm(columns.reshape(batch * tiles, -1, taps), bands.mT).view(batch, tiles, channels, -1, tile)
    columns = columns.permute(0, 3, 2, 1, 4).reshape(batch, -1, channels * height)  # [B P C*S]
    rows = columns.unfold(1, taps, tile).mT  # [B tiles taps C*S]
    blurred = torch.bmm(bands, rows.reshape(batch * tiles, taps, -1)).view(batch, height, channels, height)
    return blurred[:, :size, :, :size].transpose(1, 2)


def _bands(sigma: Array, radius: int, tile: int) -> Array:
    """Return [B tile tile+2*radius] float32: row j has the taps of an image at columns j to j + 2 * radius."""
    taps = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma[:, None]))
    taps /= taps.sum(axis=1, keepdims=True)
    taps[taps < _NEGLIGIBLE] = 0
    bands = np.zeros((len(sigma), tile, tile + 2 * radius), np.float32)
    image, row, column = bands.strides
    diagonals = as_strided(bands, (len(sigma), tile, taps.shape[1]), (image, row + column, column))
    diagonals[:] = taps[:, None]
    return bands


def _view(images: Tensor, view: View, params: Params) -> Tensor:
    """Compute a view before normalization: [B S S 3] uint8 -> [B 3 size size] float32 in [0, 1]."""
    x = images.permute(0, 3, 1, 2)
    if view.jitter_first:
        x = _color(x.to(torch.float32, memory_format=torch.contiguous_format).div_(255), params)
    x = resample(x, params.box, params.flip, view.size, view.interpolation)
    if not view.jitter_first:
        x = _color(x, params)
    x = on_rows(x, params.blur, lambda some, rows: blur(some, params.sigma[rows]))
    return on_rows(x, params.solarize, lambda some, rows: solarize_(some))


def _color(x: Tensor, params: Params) -> Tensor:
    x = on_rows(x, params.jitter, lambda some, rows: jitter_(some, params.order[rows], params.factors[rows]))
    return on_rows(x, params.grayscale, lambda some, rows: some.copy_(luma(some)))


def _normalize(x: Tensor, mean: Sequence[float], std: Sequence[float], out: Tensor) -> None:
    """Write (x - mean) / std to `out`, in one pass per channel; `x` and `out` are [B 3 H W]."""
    channels = zip(mean, std, x.unbind(1), out.unbind(1), strict=True)
    for center, spread, values, normalized in channels:
        torch.add(_scalar(-center / spread), values, alpha=1 / spread, out=normalized)


@cache
def _scalar(value: float) -> Tensor:
    return torch.tensor(value)
