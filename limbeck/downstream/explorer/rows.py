"""Choose the images of the page, and find the nearest of them to each."""

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.downstream.explorer.config import ExploreConfig
from limbeck.downstream.explorer.groups import default_clusters
from limbeck.embeddings.source import Embedded
from limbeck.neighbors.graph import Graph, build_graph

NEIGHBORS = 20  # of the graph: what votes; the first few are shown
QUICK = 20_000  # rows whose neighbors take seconds
SEARCH_SECONDS = 120.0  # for which a search per depth is exact, where FAISS could propose neighbors


def check_count(images: int) -> None:
    """Raise UserError for fewer images than a map needs."""
    if images < 2:
        raise UserError(f"there is {images} image, and a map needs at least 2", code="too-few-images")


def shown_count(images: int, cfg: ExploreConfig) -> int:
    """Return the number of images that are shown."""
    return min(images, cfg.sample or images)


def shown_rows(images: int, cfg: ExploreConfig) -> NDArray[np.int64]:
    """Return the rows that are shown, increasing: all, or those that the seed draws."""
    if cfg.sample is None or cfg.sample >= images:
        return np.arange(images)
    return np.sort(np.random.default_rng(cfg.seed).permutation(images)[: cfg.sample])


def cluster_count(rows: int, classes: int, cfg: ExploreConfig) -> int:
    """Return the number of clusters of the rows that are shown."""
    return min(cfg.clusters or default_clusters(rows, classes), rows)


def neighbor_graph(found: Embedded, depth: int, rows: NDArray[np.int64]) -> Graph:
    """Return the neighbors among the rows that are shown, as positions among these; cached where all are shown."""
    whole, k = len(rows) == len(found.store), min(NEIGHBORS, len(rows) - 1)
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
