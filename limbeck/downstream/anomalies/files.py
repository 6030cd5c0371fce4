"""A table or a page of unusual images."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, check_new
from limbeck.core.html import render
from limbeck.core.text import csv_cell, printable
from limbeck.data.augment.apply import central_side
from limbeck.data.store.layout import Pixels
from limbeck.data.thumbnail import thumbnail
from limbeck.downstream.anomalies.source import Outliers

COLUMNS = ("path", "score", "rank", "unusual")
_WORDS = {None: "", True: "yes", False: "no"}
SHOWN, USUAL = 48, 12  # images of a page: the most unusual ones, and for comparison the most usual ones
SIDE = 192  # pixels of a picture
HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)
"""Five colors of a heat map, from cold to hot: matplotlib's inferno, whose lightness rises evenly."""


def check_out(out: Path) -> None:
    """Raise UserError unless a table or a page can be written to `out`, where nothing may be."""
    if out.suffix not in _WRITERS:
        raise UserError(f"'{out}' must end in {' or '.join(_WRITERS)}: the ending is the format", code="unknown-format")
    check_new(out)


def write_outliers(found: Outliers, out: Path) -> None:
    """Write the table of all images (.csv), or a page of the most unusual ones (.html)."""
    make_folder(out.absolute().parent)
    with atomic_write(out) as unfinished:
        _WRITERS[out.suffix](found, unfinished)


def _write_table(found: Outliers, out: Path) -> None:
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for image in found.table():
            above = _WORDS[image["unusual"]]
            writer.writerow([csv_cell(image["path"]), f"{image['score']:.6g}", image["rank"], above])


def _write_page(found: Outliers, out: Path) -> None:
    order = found.order
    first, last = order[:SHOWN], order[max(SHOWN, len(order) - USUAL) :][::-1]
    text = render(
        "outliers.html",
        found=found,
        encoder=printable(found.network.label),
        unusual=[_picture(found, row) for row in first],
        usual=[_picture(found, row) for row in last],
    )
    out.write_text(text, encoding="utf-8")


def _picture(found: Outliers, row: np.int64) -> dict[str, object]:
    """Return the entry of an image in the page: path, score, thumbnail and, of patches, its heat map."""
    store = found.store
    pixels, width, height = np.asarray(store.images[row]), int(store.widths[row]), int(store.heights[row])
    heat = "" if found.maps is None else thumbnail(_heat(found, row, pixels), width, height, SIDE)
    return {
        "path": printable(found.paths[row]),
        "score": f"{found.scores[row]:#.4g}",
        "above": found.threshold is not None and bool(found.scores[row] > found.threshold),
        "photograph": thumbnail(pixels, width, height, SIDE),
        "heat": heat,
    }


def _heat(found: Outliers, row: np.int64, pixels: Pixels) -> Pixels:
    """Return a gray image under its heat map, whose colors are the same for all images of the page."""
    assert found.maps is not None
    low, high = float(np.median(found.maps)), float(found.maps.max())
    side = central_side(len(pixels), found.network.image_size)  # what the network was shown
    grown = F.interpolate(torch.from_numpy(found.maps[row])[None, None], size=(side, side), mode="bilinear")[0, 0]
    before = (len(pixels) - side) // 2
    share = np.pad((grown.numpy() - low) / max(high - low, 1e-12), (before, len(pixels) - side - before)).clip(0, 1)
    gray = pixels.mean(axis=2, keepdims=True).repeat(3, axis=2)
    opacity = (0.25 + 0.6 * share)[..., None]
    return ((1 - opacity) * gray + opacity * _colors(share)).round().astype(np.uint8)


def _colors(share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the color [H W 3] of shares [H W] in [0, 1]."""
    stops = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(share, stops, HEAT[:, channel]) for channel in range(3)], axis=2)


_WRITERS: Mapping[str, Callable[[Outliers, Path], None]] = {".html": _write_page, ".csv": _write_table}
