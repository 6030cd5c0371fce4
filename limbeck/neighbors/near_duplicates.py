"""Near-duplicates: images that are nearly equal within a store, or that occur in a second store as well."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from limbeck.core.progress import progress
from limbeck.core.runners.run import RunnerConfig
from limbeck.core.text import format_duration
from limbeck.data.store.store import Store
from limbeck.neighbors import shards
from limbeck.neighbors.cells import search_cells
from limbeck.neighbors.config import SIMILARITY_THRESHOLD
from limbeck.neighbors.graph import build_graph, estimate_seconds
from limbeck.neighbors.search import nearest
from limbeck.neighbors.vectors import FeatureMatrix, UnitVectors

logger = logging.getLogger(__name__)
BUDGET = 600.0  # seconds of an exact search within a set
NUM_NEIGHBORS = 5  # joins all copies of an image into one group, because the smaller of equal indices comes first
GRAY_SIDE, COLOR_SIDE = 16, 4  # pixels of the two thumbnails
THUMBNAIL_DIM = GRAY_SIDE**2 + 2 * COLOR_SIDE**2 + 1
CONTRAST = 1 / 255  # contrast of an image that counts as blank; less is noise
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"
BATCH = 1024

Search = Literal["auto", "exact", "cells"]
FeatureFn = Callable[[Store], FeatureMatrix]
"""Compute one vector per image of a store, such that the cosine of two vectors measures how similar the images are."""


class Matches(NamedTuple):
    """Images with a near-duplicate, each with the most similar one."""

    indices: NDArray[np.int64]  # [m], increasing
    match_indices: NDArray[np.int64]  # [m]
    cosines: NDArray[np.float32]  # [m]
    groups: NDArray[np.int64] | None = None  # [m], from 0: images joined by a chain of near-duplicates share a group


def thumbnails(store: Store, rows: NDArray[np.int64] | None = None, *, show: bool = True) -> NDArray[np.float16]:
    """Return a descriptor of how each image looks from afar, float16 [N 289], without a network.

    With `rows` [N], only of these; with `show`, under a progress bar.

    It holds the gray values on 16 x 16 cells minus their mean; red and blue relative to gray on 4 x 4 cells minus their
    means, times 4, because such a cell covers 16 of the others; and one gray level of contrast that all images share,
    which outweighs the noise of a blank image, so that blank images match. The cosine of two descriptors is invariant
    to brightness and contrast, nearly invariant to compression and size, and sensitive to crops, flips and color.
    """
    rows = np.arange(len(store)) if rows is None else rows
    found, done = np.empty((len(rows), THUMBNAIL_DIM), np.float16), 0
    blocks = np.split(rows, range(BATCH, len(rows), BATCH))
    for block in progress(blocks, "thumbnails" if show else "", unit="images", size=len):
        found[done : done + len(block)] = _thumbnails(store.images[block])
        done += len(block)
    return found


def matches_within(
    features: FeatureMatrix,
    threshold: float = SIMILARITY_THRESHOLD,
    *,
    search: Search = "auto",
    runner: RunnerConfig | None = None,
    folder: Path | None = None,
    digest: str = "",
) -> Matches:
    """Return the rows of `features` [N D] whose nearest other row has a cosine of at least `threshold`, with groups.

    A chain of near-duplicates runs through the `NUM_NEIGHBORS` nearest rows of each row.

    Args:
        features: the rows.
        threshold: the least cosine.
        search: "exact"; "cells", which looks for the near-duplicates of a row near it alone; "auto": cells where an
            exact search would take longer than `BUDGET`. Workers choose as `build_graph` does.
        runner: whose workers search.
        folder: with it, that of `build_graph`.
        digest: with it, that of `build_graph`.
    """
    if len(features) < 2:
        none = np.empty(0, np.int64)
        return Matches(none, none, none.astype(np.float32), none)
    k = min(NUM_NEIGHBORS, len(features) - 1)
    if runner is None and (search == "cells" or (search == "auto" and _takes_long(features, k))):
        found = search_cells(UnitVectors(features, None, torch.device("cpu")), k, threshold)
        return _grouped(found.neighbors, found.cosines, threshold)
    graph = build_graph(
        features,
        k,
        search="exact" if search == "exact" else "auto",
        description="near-duplicates",
        runner=runner,
        folder=folder,
        digest=digest,
    )
    return _grouped(graph.neighbors, graph.cosines, threshold)


def _takes_long(features: FeatureMatrix, k: int) -> bool:
    """Return whether an exact search takes longer than `BUDGET`, and log it if so."""
    seconds = estimate_seconds(UnitVectors(features, None, torch.device("cpu")), k)
    if seconds > BUDGET:
        logger.info(
            "an exact search of near-duplicates takes about %s: they are searched in cells", format_duration(seconds)
        )
    return seconds > BUDGET


def matches_across(features: FeatureMatrix, other: FeatureMatrix, threshold: float = SIMILARITY_THRESHOLD) -> Matches:
    """Return the rows of `features` [N D] whose nearest row of `other` [M D] has a cosine of at least `threshold`."""
    device = torch.device("cpu")
    found = nearest(
        UnitVectors(other, None, device), 1, UnitVectors(features, None, device), description="near-duplicates across"
    )
    return _matches(found.positions.numpy(), found.scores.numpy(), threshold)


def matches_across_by_shards(
    features: FeatureMatrix, other: FeatureMatrix, threshold: float, runner: RunnerConfig, folder: Path
) -> Matches:
    """Compute `matches_across` by the workers of a runner, which work in `folder`."""
    queries, base = (shards.file_of(rows, folder, name) for rows, name in ((features, "features"), (other, "other")))
    spec = shards.SearchSpec(
        queries=str(queries),
        base=str(base),
        digest=shards.digest_of(str(queries), str(base)),
        indices=None,
        k=1,
        max_similarity=None,
        device="cpu",
        lists=None,
        rows=len(features),
        shard=shards.SHARD,
        folder=str(folder.absolute()),
    )
    found = np.concatenate(list(shards.search_by_shards(spec, runner, "near-duplicates across")))
    return _matches(found["neighbor"], found["cosine"], threshold)


def _matches(neighbors: NDArray[np.integer], cosines: NDArray[np.float32], threshold: float) -> Matches:
    similar = (cosines[:, 0] >= threshold).nonzero()[0]
    return Matches(similar, neighbors[similar, 0].astype(np.int64), cosines[similar, 0])


def _grouped(neighbors: NDArray[np.integer], cosines: NDArray[np.float32], threshold: float) -> Matches:
    matches = _matches(neighbors, cosines, threshold)
    return matches._replace(groups=_groups(neighbors, cosines, threshold)[matches.indices])


def _groups(neighbors: NDArray[np.integer], cosines: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Return the group [n] of each row, numbered by first member; -1 for rows without a near-duplicate."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    row, column = (cosines >= threshold).nonzero()
    size = len(neighbors)
    edges = coo_array((np.ones(len(row)), (row, neighbors[row, column])), shape=(size, size))
    labels = connected_components(edges, directed=False)[1]
    groups = np.full(size, -1)
    groups[row] = np.unique(labels[row], return_inverse=True)[1]
    return groups


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    luma = torch.tensor(LUMA)[:, None, None]
    gray = F.adaptive_avg_pool2d((pixels * luma).sum(dim=1, keepdim=True), GRAY_SIDE)
    coarse = F.adaptive_avg_pool2d(pixels, COLOR_SIDE)
    color = (coarse - (coarse * luma).sum(dim=1, keepdim=True))[:, [0, 2]] * (GRAY_SIDE / COLOR_SIDE)
    flat = [(x - x.mean(dim=(2, 3), keepdim=True)).flatten(1) for x in (gray, color)]
    return torch.cat([*flat, torch.full((len(pixels), 1), GRAY_SIDE * CONTRAST)], dim=1).numpy()
