"""The page as one file: numbers as base64, thumbnails as tiles, names compressed; no network, no foreign script."""

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.core.html import render
from limbeck.core.text import printable
from limbeck.data.store.store import Store
from limbeck.downstream.explorer.atlas import Atlas, make_atlas
from limbeck.downstream.explorer.groups import Clusters
from limbeck.downstream.explorer.layout import Layout
from limbeck.neighbors.graph import Graph

MOST = 100_000  # images of a page
BUDGET = 11_500_000  # bytes of a page of up to 50,000 images; beyond, in proportion
FULL = 50_000
SHARE = 0.36  # of the budget for neighbors
MOST_SHOWN, FEWEST_SHOWN = 12, 4  # neighbors of an image on the page
BASE64 = 4 / 3
OTHER = 24  # bytes of an image besides its neighbors, its thumbnail and its name
SCRIPTS = ("explore-map.js", "explore-page.js")


def page_bytes(images: int) -> int:
    """Return about how large a page may become."""
    return BUDGET * max(images, FULL) // FULL


def _id_bytes(images: int) -> int:
    return 2 if images <= 2**16 else 4


def shown_depths(depths: Sequence[int], images: int) -> list[int]:
    """Return the depths at which neighbors are shown: all, or evenly spread ones where the page has no room for all."""
    room = SHARE * page_bytes(images) / (images * FEWEST_SHOWN * _id_bytes(images) * BASE64)
    count = max(2, min(len(depths), int(room)))
    return [depths[i] for i in np.unique(np.linspace(0, len(depths) - 1, count).round().astype(int))]


def shown_neighbors(depths: int, images: int) -> int:
    """Return the number of neighbors of an image that fit into the page, at each depth."""
    room = SHARE * page_bytes(images) / (images * depths * _id_bytes(images) * BASE64)
    return max(1, min(MOST_SHOWN, images - 1, max(FEWEST_SHOWN, int(room))))


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Everything that a page shows of N images."""

    store: Store
    rows: NDArray[np.int64]
    """[N], rows of the store."""
    names: Sequence[str]
    encoder: str
    layout: Layout
    graphs: Mapping[int, Graph]
    """Neighbors, by depth."""
    shown: int
    """Neighbors of an image that are shown."""
    clusters: Clusters
    outliers: NDArray[np.float32]
    predicted: NDArray[np.int64] | None
    """Class by the vote of the neighbors; None without labels."""
    probed: NDArray[np.int64] | None
    """Prediction of a linear probe that was not fitted to the image, -1 for none; None without labels."""
    agreement: Sequence[float]
    """Fraction of the neighbors shown that have the label of their image, by depth."""
    atlas: Atlas

    @classmethod
    def of(
        cls, store: Store, rows: NDArray[np.int64], *, agreement: Callable[[int], Sequence[float]], **parts: Any
    ) -> "View":
        """Return a view with as many neighbors and as large thumbnails as the page has room for."""
        shown = shown_neighbors(len(parts["graphs"]), len(rows))
        neighbors = len(rows) * shown * len(parts["graphs"]) * _id_bytes(len(rows))
        names = len(_compressed(parts["names"]))
        rest = page_bytes(len(rows)) / BASE64 - neighbors - names - OTHER * len(rows)
        atlas = make_atlas(store, rows, rest)
        return cls(store=store, rows=rows, shown=shown, agreement=agreement(shown), atlas=atlas, **parts)


def page(view: View) -> bytes:
    """Return the file."""
    script = "".join((files("limbeck.core") / "templates" / name).read_text(encoding="utf-8") for name in SCRIPTS)
    text = render(
        "explore.html",
        title=f"{len(view.rows):,} images",
        about=_about(view),
        first=_first(view),
        later=_later(view),
        script=script,
        script_hash=b64encode(sha256(_normalized(script).encode()).digest()).decode(),
        version=version("limbeck"),
    )
    return text.encode()


def _normalized(script: str) -> str:
    """Return the script as an HTML parser reads it."""
    return re.sub("\r\n?", "\n", script)


def _about(view: View) -> dict[str, Any]:
    store, atlas = view.store, view.atlas
    return {
        "count": len(view.rows),
        "encoder": printable(view.encoder),
        "layout": view.layout.name,
        "labels": [printable(name) for name in store.label_names] if view.predicted is not None else [],
        "depths": list(view.graphs),
        "shown": view.shown,
        "wide": _id_bytes(len(view.rows)) == 4,
        "agreement": [round(share, 4) for share in view.agreement],
        "clusters": [cluster._asdict() for cluster in view.clusters.clusters],
        "tile": atlas.side,
        "columns": atlas.columns,
        "sheets": len(atlas.sheets),
    }


def _first(view: View) -> dict[str, str]:
    """Return the arrays that are drawn first, by name: base64 of little-endian numbers."""
    labels = view.store.labels[view.rows]
    ranks = np.argsort(np.argsort(view.outliers, kind="stable")) / max(1, len(view.rows) - 1)
    sizes = view.store.widths[view.rows] / view.store.heights[view.rows]
    return {
        "positions": _encode(np.round(view.layout.positions * 65535), "<u2"),
        "labels": _encode(labels if view.predicted is not None else [], "<i4"),
        "votes": _encode([] if view.predicted is None else view.predicted, "<i4"),
        "probed": _encode([] if view.probed is None else view.probed, "<i4"),
        "clusters": _encode(view.clusters.of_image, "<u2"),
        "outliers": _encode(np.round(255 * ranks), "u1"),
        "shapes": _encode(np.round(128 + 32 * np.log2(sizes)).clip(0, 255), "u1"),
    }


def _later(view: View) -> dict[str, str]:
    """Return the arrays that are read once the points are on the screen."""
    kind = f"<u{_id_bytes(len(view.rows))}"
    neighbors = [np.maximum(graph.neighbors[:, : view.shown], 0) for graph in view.graphs.values()]
    sheets = {f"sheet-{number}": b64encode(sheet).decode() for number, sheet in enumerate(view.atlas.sheets)}
    names = b64encode(_compressed(view.names)).decode()
    return {"neighbors": _encode(np.stack(neighbors), kind), "names": names, **sheets}


def _compressed(names: Sequence[str]) -> bytes:
    return gzip.compress(json.dumps([printable(name) for name in names]).encode(), mtime=0)


def _encode(numbers: Any, kind: str) -> str:
    return b64encode(np.ascontiguousarray(numbers, dtype=kind).tobytes()).decode()
