"""From images and a network to the page: embeddings at every depth, neighbors, map, clusters, outliers."""

import logging
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import from_numpy

from limbeck.core.disk import check_writable, make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, check_ours
from limbeck.core.html import PAGE_START
from limbeck.core.rank import is_rank0
from limbeck.core.text import format_bytes
from limbeck.data.sources.open import Source, open_source
from limbeck.data.sources.selection import Selection
from limbeck.data.store.layout import is_store
from limbeck.data.store.store import Store
from limbeck.downstream.anomalies.distances import outlier_scores
from limbeck.downstream.explorer.config import ExploreConfig
from limbeck.downstream.explorer.groups import agreement, find_clusters, held_out_predictions, vote
from limbeck.downstream.explorer.layout import COMPONENTS, lay_out_components, principal_components
from limbeck.downstream.explorer.page import MOST, View, page, page_bytes, shown_depths
from limbeck.downstream.explorer.rows import check_count, cluster_count, neighbor_graph, shown_count, shown_rows
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder, load_features
from limbeck.embeddings.source import Embedded, embed_source, open_images

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """A page that was written, and what it shows."""

    path: Path
    images: int
    bytes: int
    layout: str
    """Algorithm that computed the map."""
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
        encoder: what `load_features` takes.
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
    if files := _count_files(source, embed):
        _check_page(shown_count(files, cfg))
    network = encoder if isinstance(encoder, FrozenEncoder) else load_features(encoder, embed.precision)
    store = open_images(source, network, embed)
    _check_page(shown_count(len(store), cfg))
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


def _count_files(source: Source | Store, embed: EmbedConfig) -> int | None:
    """Return the number of images of a folder or file before any is decoded; None where that is not known."""
    if not isinstance(source, str | Path) or not Path(source).exists() or is_store(Path(source)):
        return None
    return open_source(source, Selection.by(embed.exclude, embed.only)).count


def _check_page(images: int) -> None:
    """Raise UserError for too many or too few images, before the work that depends on their number."""
    check_count(images)
    if images > MOST:
        size = format_bytes(page_bytes(images))
        raise UserError(
            f"{images:,} images would make a page of about {size}, which browsers open slowly or not at all: show a "
            f"part of them with --sample {MOST:,}, or all of them in a viewer for millions of points with --serve",
            code="too-many-images",
        )


def _view(found: Embedded, cfg: ExploreConfig) -> View:
    """Return everything that the page shows."""
    rows = shown_rows(len(found.store), cfg)
    store, labels = found.store, found.labels[rows]
    depths = shown_depths(sorted(found.features), len(rows))
    graphs = {depth: neighbor_graph(found, depth, rows) for depth in depths}
    features = np.array(found.features[depths[-1]][rows])
    reduced = principal_components(F.normalize(from_numpy(features)).numpy(), COMPONENTS, cfg.seed)
    layout, last = lay_out_components(reduced, cfg.layout, cfg.seed), graphs[depths[-1]]
    logger.info("map: %s", layout.name)
    clusters = find_clusters(reduced, labels, cluster_count(len(rows), len(store.label_names), cfg), cfg.seed)
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
