"""Near-duplicates of very large sets: the cells of a k-means, with an exact search inside of each.

Abbas et al., *SemDeDup: Data-efficient learning at web-scale through semantic deduplication* (arXiv 2303.09540): what
is nearly equal lies in the same cell, so that N rows cost N sqrt(N) comparisons and not N^2. Two near-duplicates at the
border of two cells would be missed; here each row is also looked for in the cells that are next to it, in as many as it
takes to find what an exact search of some rows finds, which is known before the search from the cells of those rows.
"""

import logging
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.losses.precision import exact_products
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

    Each row is looked for in as many of the cells nearest to it as it takes to find at least `LEAST` of the
    near-duplicates of `SAMPLED` rows, which are searched exactly.
    """
    count = max(1, round(math.sqrt(len(vectors))))
    centers = UnitVectors(_centers(vectors, count), None, vectors.device)
    ranks = _cell_ranks(vectors, centers, k, threshold)
    probes = 1 + int(np.quantile(ranks, LEAST, method="inverted_cdf")) if len(ranks) else 1
    found = float((ranks < probes).mean()) if len(ranks) else 1.0
    logger.info(
        "%d of %d cells searched for each row: %.1f %% of the near-duplicates of %d rows are found",
        *(probes, count, 100 * found, min(SAMPLED, len(vectors))),
    )
    places = nearest(centers, probes, vectors, description="cells").positions
    return _search(vectors, places, count, k, threshold)._replace(found=found)


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


def _with_others(search: ExactSearch, threshold: float, inside: Tensor) -> Tensor:
    """Return the queries that may have a near-duplicate in the base other than themselves, where they are `inside`."""
    queries = torch.arange(len(search.queries), device=search.queries.device)
    count = -inside.to(queries)
    with exact_products(search.queries.device):
        for _, scores in search.score_blocks(queries, search.queries.unit(queries)):
            count += (scores >= threshold - search.tolerance).sum(dim=1)
    return queries[count > 0]


def _cell_ranks(vectors: UnitVectors, centers: UnitVectors, k: int, threshold: float) -> NDArray[np.int64]:
    """Return for each near-duplicate [m] of some rows, searched exactly, the rank of its cell among those of the row.

    A search in P cells finds it where the rank, which counts from 0, is below P.
    """
    sample = np.unique(np.linspace(0, len(vectors) - 1, min(SAMPLED, len(vectors)), dtype=np.int64))
    rows = torch.from_numpy(sample).to(vectors.device)
    exact = ExactSearch(vectors, k).find(rows)
    row, column = (exact.scores >= threshold).nonzero(as_tuple=True)
    if not len(row):
        return np.empty(0, np.int64)
    cells = ExactSearch(centers, 1, queries=vectors).find(exact.positions[row, column]).positions[:, 0]
    places = ExactSearch(centers, len(centers), queries=vectors).find(rows).positions
    ranks: NDArray[np.int64] = places.argsort(dim=1)[row, cells].cpu().numpy()
    return ranks


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
        search = ExactSearch(inside, min(k + 1, len(base)), queries=queries)
        near = _with_others(search, threshold, torch.from_numpy(np.isin(some, base)))
        if not len(near):
            continue
        some, found = some[near.cpu().numpy()], search.find(near)
        idx, scores = base[found.positions.cpu().numpy()], found.scores.cpu().numpy()
        scores = np.where((idx == some[:, None]) | (scores < threshold), -np.inf, scores)
        idx = np.concatenate([neighbors[some], np.where(scores > -np.inf, idx, -1)], axis=1)
        scores = np.concatenate([cosines[some], scores], axis=1)
        order = np.lexsort((idx, -scores))[:, :k]  # of equal cosines the smaller index first
        neighbors[some], cosines[some] = (np.take_along_axis(values, order, axis=1) for values in (idx, scores))
