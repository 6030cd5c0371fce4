"""Thumbnails of many images as tiles of a few pictures, within a budget of bytes."""

import bisect
import io
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck.core.progress import progress
from limbeck.data.store.store import Store

SHEET = 2048  # pixels of the side of a picture, which phones can hold
LARGEST, SMALLEST = 128, 12  # pixels of the side of a tile
QUALITY = 45  # of WebP
SAMPLE = 1024  # images on which the bytes of a pixel are measured


class Atlas(NamedTuple):
    """Pictures of tiles, in the order of the images, row by row."""

    side: int
    """Pixels of a tile."""
    columns: int
    """Tiles in a row, and rows in a picture."""
    sheets: list[bytes]
    """WebP."""


def make_atlas(store: Store, rows: NDArray[np.int64], budget: float) -> Atlas:
    """Return the tiles of the images `rows`, as large as fits into `budget` bytes: squares, as the store has them."""
    side = _side(store, rows, budget)
    columns = min(SHEET // side, math.ceil(math.sqrt(len(rows))))
    parts = [rows[start : start + columns**2] for start in range(0, len(rows), columns**2)]
    sheets = [_sheet(store, part, side, columns) for part in progress(parts, "thumbnails", unit="images", size=len)]
    return Atlas(side, columns, sheets)


def _side(store: Store, rows: NDArray[np.int64], budget: float) -> int:
    """Return the side of the tiles, from the bytes of a few of them."""
    largest = min(LARGEST, store.size)
    some = rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE).round().astype(np.int64))]
    columns = math.ceil(math.sqrt(len(some)))
    sides = range(min(SMALLEST, largest), largest + 1, 2)
    fits = bisect.bisect_right(
        sides, budget, key=lambda side: len(_sheet(store, some, side, columns)) / len(some) * len(rows)
    )
    return sides[max(0, fits - 1)]


def _sheet(store: Store, rows: NDArray[np.int64], side: int, columns: int) -> bytes:
    height = math.ceil(len(rows) / columns)
    picture = Image.new("RGB", (side * columns, side * height))
    for place, tile in enumerate(_tiles(store, rows, side)):
        picture.paste(tile, (place % columns * side, place // columns * side))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def _tiles(store: Store, rows: Sequence[int] | NDArray[np.int64], side: int) -> Iterator[Image.Image]:
    for row in rows:
        image = Image.fromarray(np.asarray(store.images[row]))
        yield image if store.size == side else image.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
