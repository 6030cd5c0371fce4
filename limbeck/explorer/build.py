"""From images and a network to the page: embeddings at every depth, neighbors, map, clusters, outliers."""

import logging
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import from_numpy

from limbeck.anomalies.distances import outlier_scores
from limbeck.core.disk import check_writable, make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, check_ours
from limbeck.core.html import PAGE_START
from limbeck.core.rank import is_rank0
from limbeck.core.text import format_bytes
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder, load_encoder
from limbeck.embeddings.source import Embedded, embed_source, open_images
from limbeck.explorer.config import ExploreConfig
from limbeck.explorer.groups import agreement, default_clusters, find_clusters, held_out_predictions, vote
from limbeck.explorer.layout import COMPONENTS, lay_out, principal_components
from limbeck.explorer.page import MOST, View, page, page_bytes, shown_depths
from limbeck.neighbors.graph import Graph, build_graph

logger = logging.getLogger(__name__)

NEIGHBORS = 20  # of the graph: what votes; the page shows the first few
QUICK = 20_000  # rows whose neighbors take seconds
SEARCH_SECONDS = 120.0  # for which a search per depth is exact, where FAISS could propose neighbors


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """A page that was written, and what it shows."""

    path: Path
    images: int
    bytes: int
    layout: str
    """What made the map."""
    depths: tuple[int, ...]
    """At which neighbors are shown."""
    agreement: tuple[float, ...]
    """Fraction of the neighbors shown that have the label of their image, at each of these depths; none without
    labels."""
    clusters: int
    tile: int
    """Pixels of a thumbnail's side."""


def write_explorer(
    source: Source | Store,
    encoder: str | PathLike[str] | FrozenEncoder,
    out: str | PathLike[str] = "explore.html",
    *,
    cfg: ExploreConfig | None = None,
    embed: EmbedConfig | None = None,
) -> Explorer | None:
    """Write one HTML file that shows all images of a source as a network sees them; return what it shows.

    Several processes share the embeddings; the first alone makes the page, and the others return None.

    Args:
        source: what `embed_source` takes.
        encoder: what `load_encoder` takes.
        out: the page; one of Limbeck's is replaced.
        cfg: what the page shows.
        embed: how the embeddings are computed.

    Raises:
        UserError: as `embed_source`; there are fewer than two images or more than a page can hold; or `out` is not a
            page of Limbeck's.
    """
    cfg, embed, path = cfg or ExploreConfig(), embed or EmbedConfig(), Path(out)
    check_writable(path.absolute().parent)
    check_ours(path, PAGE_START, "page")
    network = encoder if isinstance(encoder, FrozenEncoder) else load_encoder(encoder, embed.precision)
    store = open_images(source, network, embed)
    _check_count(len(store), cfg)
    found = embed_source(store, network, cfg=embed)
    if not is_rank0():
        return None
    view = _view(found, cfg)
    text = page(view)
    make_folder(path.absolute().parent)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(text)
    return Explorer(
        path=path,
        images=len(view.rows),
        bytes=len(text),
        layout=view.layout.name,
        depths=tuple(view.graphs),
        agreement=tuple(view.agreement),
        clusters=len(view.clusters.clusters),
        tile=view.atlas.side,
    )


def _check_count(images: int, cfg: ExploreConfig) -> None:
    """Raise UserError for too many or too few images, before the work that depends on their number."""
    shown = min(images, cfg.sample or images)
    if shown < 2:
        raise UserError(f"there is {shown} image, and a map needs at least 2", code="too-few-images")
    if shown > MOST:
        size = format_bytes(page_bytes(shown))
        raise UserError(
            f"{shown:,} images would make a page of about {size}, which browsers open slowly or not at all: show a "
            f"part of them with --sample {MOST:,}, or write their vectors with `limbeck embed` and open the parquet "
            "file in a viewer for millions of points (docs/explore.md)",
            code="too-many-images",
        )


def _view(found: Embedded, cfg: ExploreConfig) -> View:
    """Return everything that the page shows."""
    rows = _rows(len(found.store), cfg)
    store, labels = found.store, found.labels[rows]
    k = min(NEIGHBORS, len(rows) - 1)
    depths = shown_depths(sorted(found.features), len(rows))
    graphs = {depth: _graph(found, depth, rows, k) for depth in depths}
    features = np.array(found.features[depths[-1]][rows])
    unit = F.normalize(from_numpy(features)).numpy()
    layout, last = lay_out(unit, cfg.layout, cfg.seed), graphs[depths[-1]]
    logger.info("map: %s", layout.name)
    count = min(cfg.clusters or default_clusters(len(rows), len(store.label_names)), len(rows))
    clusters = find_clusters(principal_components(unit, COMPONENTS, cfg.seed), labels, count, cfg.seed)
    labeled = bool((labels >= 0).any())
    return View.of(
        store,
        rows,
        names=[found.paths[row] for row in rows],
        encoder=found.encoder.label,
        layout=layout,
        graphs=graphs,
        clusters=clusters,
        outliers=outlier_scores(last.cosines),
        predicted=vote(last, labels) if labeled else None,
        probed=held_out_predictions(features, labels, cfg.seed) if labeled else None,
        agreement=lambda shown: [agreement(graph, labels, shown) for graph in graphs.values()] if labeled else [],
    )


def _rows(images: int, cfg: ExploreConfig) -> NDArray[np.int64]:
    if cfg.sample is None or cfg.sample >= images:
        return np.arange(images)
    return np.sort(np.random.default_rng(cfg.seed).permutation(images)[: cfg.sample])


def _graph(found: Embedded, depth: int, rows: NDArray[np.int64], k: int) -> Graph:
    """Return the neighbors among the rows that are shown, as positions among these; cached where all are shown."""
    whole = len(rows) == len(found.store)
    folder = found.folder / f"neighbors-{depth}-{k}" if found.folder and whole else None
    return build_graph(
        np.asarray(found.features[depth]) if whole else np.array(found.features[depth][rows]),
        k,
        search="auto" if len(rows) > QUICK else "exact",
        folder=folder,
        digest=found.folder.name if found.folder else "",
        budget=SEARCH_SECONDS,
        description=f"neighbors at depth {depth}",
    )
