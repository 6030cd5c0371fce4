"""Near-duplicates of very large sets: the cells of a k-means, with an exact search inside of each.

Abbas et al., *SemDeDup: Data-efficient learning at web-scale through semantic deduplication* (arXiv 2303.09540): what
is nearly equal lies in the same cell, so that N rows cost N sqrt(N) comparisons and not N^2. Two near-duplicates at the
border of two cells would be missed; here each row is also looked for in the cells that are next to it, in as many as it
takes to find what an exact search of some rows finds.
"""

import logging
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.neighbors.bags import kmeans
from limbeck.neighbors.search import ExactSearch, nearest
from limbeck.neighbors.vectors import BLOCK, UnitVectors

logger = logging.getLogger(__name__)

SAMPLE_PER_CELL = 64  # rows that a center is computed from
LEAST = 0.95  # share of the near-duplicates of `SAMPLED` rows that have to be found
SAMPLED = 1000
QUERIES = 4096


class Neighbors(NamedTuple):
    """The nearest rows of every row, as far as they are near-duplicates of it."""

    neighbors: NDArray[np.int64]  # [N k], best first, -1 where there is none
    cosines: NDArray[np.float32]  # [N k], -inf where there is none
    found: float  # share of the near-duplicates of some rows that an exact search finds as well


def search_cells(vectors: UnitVectors, k: int, threshold: float) -> Neighbors:
    """Return the `k` nearest rows of each row with a cosine of at least `threshold`, searched in cells.

    Each row is looked for in its own cell; then in 2, 4, 8 ... cells, until at least `LEAST` of the near-duplicates of
    `SAMPLED` rows are found, which are searched exactly.
    """
    count = max(1, round(math.sqrt(len(vectors))))
    centers = UnitVectors(_centers(vectors, count), None, vectors.device)
    probes = 1
    while True:
        places = nearest(centers, probes, vectors, description="cells").positions
        result = _search(vectors, places, count, k, threshold)
        share = _found(vectors, result, threshold)
        logger.info(
            "%d of %d cells searched for each row: %.1f %% of the near-duplicates of %d rows are found",
            *(probes, count, 100 * share, min(SAMPLED, len(vectors))),
        )
        if share >= LEAST or probes == count:
            return result._replace(found=share)
        probes = min(2 * probes, count)


def _centers(vectors: UnitVectors, count: int) -> Tensor:
    """Return the centers [C D] of the cells, from a sample of the rows."""
    sample = np.linspace(0, len(vectors) - 1, min(len(vectors), count * SAMPLE_PER_CELL), dtype=np.int64)
    cells = torch.from_numpy(kmeans(vectors.features, count, indices=vectors.indices[sample], device=vectors.device))
    sums = torch.zeros(count, vectors.dim, dtype=torch.float64)
    for start in range(0, len(sample), BLOCK):
        rows = torch.from_numpy(sample[start : start + BLOCK]).to(vectors.device)
        sums.index_add_(0, cells[start : start + BLOCK], vectors.unit(rows).cpu().double())
    empty = torch.linalg.vector_norm(sums, dim=1) == 0  # opposite rows: any direction will do
    sums[empty] = torch.eye(vectors.dim, dtype=torch.float64)[0]
    return sums


def _search(vectors: UnitVectors, places: Tensor, count: int, k: int, threshold: float) -> Neighbors:
    """Look for every row in the cells [N P] at its `places`; the first of them is its own."""
    neighbors = np.full((len(vectors), k), -1, np.int64)
    cosines = np.full((len(vectors), k), -np.inf, np.float32)
    members = _by_cell(places[:, :1], count)
    visitors = members if places.shape[1] == 1 else _by_cell(places, count)
    for base, rows in progress(list(zip(members, visitors, strict=True)), "near-duplicates", unit="cells"):
        if len(base) and len(rows):
            _search_cell(vectors, base, rows, threshold, neighbors, cosines)
    return Neighbors(neighbors, cosines, 0.0)


def _by_cell(places: Tensor, count: int) -> list[NDArray[np.int64]]:
    """Return the increasing rows that have each of `count` cells among their `places` [N P]."""
    flat = places.cpu().numpy().ravel()
    order = np.argsort(flat, kind="stable")
    return np.split(order // places.shape[1], np.cumsum(np.bincount(flat, minlength=count))[:-1])


def _search_cell(
    vectors: UnitVectors,
    base: NDArray[np.int64],
    rows: NDArray[np.int64],
    threshold: float,
    neighbors: NDArray[np.int64],
    cosines: NDArray[np.float32],
) -> None:
    """Merge what each of `rows` finds among the rows `base` of a cell into its neighbors; no row finds itself."""
    k = neighbors.shape[1]
    inside = UnitVectors(vectors.features, vectors.indices[base], vectors.device)
    for start in range(0, len(rows), QUERIES):
        some = rows[start : start + QUERIES]
        queries = UnitVectors(vectors.features, vectors.indices[some], vectors.device)
        found = ExactSearch(inside, min(k + 1, len(base)), queries=queries).find(torch.arange(len(some)))
        idx, scores = base[found.positions.cpu().numpy()], found.scores.cpu().numpy()
        scores = np.where((idx == some[:, None]) | (scores < threshold), -np.inf, scores)
        idx = np.concatenate([neighbors[some], np.where(scores > -np.inf, idx, -1)], axis=1)
        scores = np.concatenate([cosines[some], scores], axis=1)
        order = np.lexsort((idx, -scores))[:, :k]  # of equal cosines the smaller index first
        neighbors[some], cosines[some] = (np.take_along_axis(values, order, axis=1) for values in (idx, scores))


def _found(vectors: UnitVectors, result: Neighbors, threshold: float) -> float:
    """Return the share of the near-duplicates of some rows that is found, of those of an exact search; 1 if none."""
    rows = np.unique(np.linspace(0, len(vectors) - 1, min(SAMPLED, len(vectors)), dtype=np.int64))
    k = result.neighbors.shape[1]
    exact = ExactSearch(vectors, k).find(torch.from_numpy(rows).to(vectors.device)).scores.cpu().numpy()
    wanted = exact >= threshold
    return float((result.cosines[rows] >= exact)[wanted].mean()) if wanted.any() else 1.0
