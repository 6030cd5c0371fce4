"""Gaussian blur by products with banded matrices, of batches and of single planes."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.augment.color import to_device
from limbeck.data.augment.draw_parameters import Array

BLUR_RADIUS = 11  # 23 taps, BYOL's kernel at 224 px (table 6): more than 5 deviations of sigma <= 2, at any size
_DEVIATIONS = (
    4.95  # taps as far as that from the middle, and farther, are less than 1e-5 of the sum in either direction
)
_NEGLIGIBLE = 1e-9  # taps below it are dropped: subnormal ones made the products ten times slower
_TILE = 16  # pixels blurred by one matrix product; measured at 224 px


def blur(x: Tensor, sigma: Array) -> Tensor:
    """Blur [B C S S] with a Gaussian of `sigma` [B] pixels, 2 * BLUR_RADIUS + 1 taps and reflected borders.

    Taps beyond 4.95 standard deviations (less than 1e-5 of the sum) of every image are left out. The blur is two
    products with banded matrices, in tiles of the band, first along rows of pixels, then along columns: 0.4 ms at
    224 px on one core, where two depthwise convolutions take 1.8 ms and two dense matrices 0.9 ms.
    """
    batch, channels, size, _ = x.shape
    radius, tiles = _radius(float(sigma.max()), size), math.ceil(size / _TILE)
    if radius == 0:
        return x
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


class PlaneBlur:
    """The same for one plane [S S] after another on a CPU, in two buffers that stay in a second-level cache."""

    def __init__(self, size: int) -> None:
        self.size, self.tiles = size, math.ceil(size / _TILE)
        values = self.tiles * _TILE * (self.tiles * _TILE + 2 * BLUR_RADIUS)
        self.padded, self.blurred = torch.empty(values), torch.empty(values)
        self.parts: dict[int, _Parts] = {}

    def of(self, sigma: float) -> Callable[[Tensor], Tensor]:
        """Return the function that blurs a plane [S S] by `sigma` pixels.

        It returns [S tiles T], whose last two dimensions are a row, a view of a buffer that the next plane overwrites;
        where T does not divide S, it returns [S S], a copy, and where nothing is to be done, the plane.
        """
        radius = _radius(sigma, self.size)
        if radius == 0:
            return lambda plane: plane
        if radius not in self.parts:
            self.parts[radius] = self._parts(radius)
        bands = torch.from_numpy(_bands(np.array([sigma], np.float32), radius, _TILE)).expand(self.tiles, -1, -1)
        return partial(_blur_plane, parts=self.parts[radius], bands=bands, radius=radius)

    def _parts(self, radius: int) -> "_Parts":
        size, tiles = self.size, self.tiles
        height, taps, extent = tiles * _TILE, _TILE + 2 * radius, tiles * _TILE + 2 * radius
        padded, blurred = self.padded[: extent * size], self.blurred[: height * size]
        wide = blurred.view(tiles, size, _TILE).transpose(0, 1)
        return _Parts(
            padded.view(extent, size).numpy(),
            padded.as_strided((tiles, taps, size), (_TILE * size, size, 1)),
            blurred.view(tiles, _TILE, size),
            blurred.view(height, size)[:size].numpy().T,
            padded.view(size, extent).numpy().T,
            padded.as_strided((tiles, size, taps), (_TILE, extent, 1)),
            blurred.view(tiles, size, _TILE),
            wide,
        )


class _Parts(NamedTuple):
    """Slices of the two buffers for a blur by one radius; tiles of the padded plane overlap and are not copied."""

    rows: Array  # [P S], padded
    tiles_of_rows: Tensor  # [tiles taps S]
    tall: Tensor  # [tiles T S], blurred along columns
    columns: Array  # [S S], the same, turned
    padded: Array  # [P S], turned, padded
    tiles_of_columns: Tensor  # [tiles S taps]
    wide: Tensor  # [tiles S T], blurred along rows
    result: Tensor  # [S tiles T], the same


def _blur_plane(plane: Tensor, parts: _Parts, bands: Tensor, radius: int) -> Tensor:
    _reflect(parts.rows, plane.numpy(), radius)
    torch.bmm(bands, parts.tiles_of_rows, out=parts.tall)
    _reflect(parts.padded, parts.columns, radius)
    torch.bmm(parts.tiles_of_columns, bands.mT, out=parts.wide)
    size = len(plane)
    return parts.result if parts.result.shape[1] * _TILE == size else parts.result.reshape(size, -1)[:, :size]


def _reflect(padded: Array, values: Array, radius: int) -> None:
    """Fill `padded` with `values` behind `radius` mirrored rows, and with as many more below as it has room for."""
    end = len(values) + radius
    padded[radius:end] = values
    padded[:radius] = values[radius:0:-1]
    padded[end:] = values[-2 : -2 - len(padded) + end : -1]


def _radius(sigma: float, size: int) -> int:
    return min(BLUR_RADIUS, size - 1, max(0, math.ceil(_DEVIATIONS * sigma - 1)))


def _bands(sigma: Array, radius: int, tile: int) -> Array:
    """Return [B tile tile+2*radius] float32: row j has the taps of an image at columns j to j + 2 * radius."""
    bands = np.exp(_squares(radius, tile) * (-0.5 / np.square(sigma))[:, None, None])
    bands /= bands[:, :1].sum(axis=2, keepdims=True)
    bands[bands < _NEGLIGIBLE] = 0
    return bands.astype(np.float32, copy=False)


@cache
def _squares(radius: int, tile: int) -> Array:
    """Return [tile tile+2*radius] float32: squared distances to the middle of the taps, infinite beyond them."""
    distance = np.arange(-radius, tile + radius) - np.arange(tile)[:, None]
    return np.where(np.abs(distance) <= radius, np.square(distance), np.inf).astype(np.float32)
