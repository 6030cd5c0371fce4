"""k-nearest-neighbor search: `top_k` over blocks of scores, and `ExactSearch`, which is reproducible bit for bit.

Everything in Limbeck that looks up neighbors uses one of these two:

* `top_k` keeps the k largest of float32 scores that are computed block by block. Products in float32 are off by a few
  units of 1e-7, by how much depends on block shapes, device and threads, so near-ties may fall either way. That is
  enough for accuracies (`metrics/knn.py`).
* `ExactSearch` takes a few candidates more from `top_k` and ranks them by cosines in float64; where float32 cannot
  separate the last neighbor from the next candidate, it compares every row in question. The result is a function of the
  features alone. Bags need this, because a resumed or distributed run must find the same ones; near-duplicates and
  neighbor agreement use it because copies of an image are exact ties.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.losses.precision import exact_products
from limbeck.neighbors.vectors import UnitVectors

EXTRA_CANDIDATES = 6  # of 4,096 CIFAR-10 thumbnails 5 were undecided with 1 extra candidate and none with 6
INF = float("inf")


class BlockSize(NamedTuple):
    """Numbers of queries and of base rows that are compared at once."""

    queries: int
    base: int


BLOCK_SIZES = {"cpu": BlockSize(4096, 8192), "cuda": BlockSize(8192, 65_536)}
"""Block sizes per type of device; the scores of one block take 128 MiB on a CPU and 2 GiB on a GPU."""


class TopK(NamedTuple):
    """The best base rows of each of B queries, best first; where fewer than k exist, the rest is -1 with score -inf."""

    positions: Tensor  # [B k] int64
    scores: Tensor  # [B k]


def top_k(blocks: Iterable[tuple[int, Tensor]], k: int) -> TopK:
    """Return the `k` largest scores of each query over `blocks` of columns, or all if there are fewer.

    Args:
        blocks: (position of the first column, scores [B n]) of consecutive parts of the base; at least one.
        k: the number of scores per query.
    """
    best: TopK | None = None
    for start, scores in blocks:
        top = scores.topk(min(k, scores.shape[1]))
        found = TopK(top.indices + start, top.values)
        best = found if best is None else _merge(best, found, k)
    assert best is not None, "there are no blocks"
    return best


def _merge(a: TopK, b: TopK, k: int) -> TopK:
    positions, scores = (torch.cat(pair, dim=1) for pair in zip(a, b, strict=True))
    scores, order = scores.topk(min(k, scores.shape[1]))
    return TopK(positions.gather(1, order), scores)


class ExactSearch:
    """The `k` rows of `base` with the largest cosine to each query; of equal cosines the smaller position comes first.

    Args:
        base: the rows among which neighbors are searched.
        k: the number of neighbors, at most as many as there are rows.
        max_similarity: rows with a larger cosine are left out.
        queries: the rows whose neighbors are searched; None for the base itself, where no row is its own neighbor.
    """

    def __init__(
        self, base: UnitVectors, k: int, max_similarity: float | None = None, queries: UnitVectors | None = None
    ) -> None:
        assert k <= len(base) - (queries is None)
        self.queries, self.base, self.k, self.max_similarity = queries or base, base, k, max_similarity
        self.exclude_self = queries is None
        self.num_candidates = min(k + EXTRA_CANDIDATES, len(base))
        self.tolerance = 2**-22 * base.dim**0.5  # 3 to 30 times the largest error measured, 16 <= D <= 2048

    def find(self, query_idx: Tensor) -> TopK:
        """Return the neighbors of the queries at positions `query_idx` [B]."""
        with exact_products(self.queries.device):
            queries = self.queries.unit(query_idx)
            candidates = top_k(self.score_blocks(query_idx, queries), self.num_candidates)
            found = self.rank(query_idx, candidates.positions, candidates.scores > -INF)
            last, worst = found.scores[:, -1], candidates.scores[:, -1]
            undecided = (worst > -INF) & (worst + self.tolerance >= last)
            if self.num_candidates < len(self.base) and bool(undecided.any()):
                floor = last[undecided] - self.tolerance
                resolved = self._compare_all(query_idx[undecided], queries[undecided], floor)
                found.positions[undecided], found.scores[undecided] = resolved
        return found

    def rank(self, query_idx: Tensor, candidate_idx: Tensor, valid: Tensor) -> TopK:
        """Return the best k of the candidates [B c] that are `valid`, by their cosines in float64."""
        candidate_idx, order = candidate_idx.sort(dim=1)
        cosines = self._drop_similar(self.queries.cosines(query_idx, self.base, candidate_idx))
        return self._select(candidate_idx, cosines.masked_fill_(~valid.gather(1, order), -INF))

    def score_blocks(self, query_idx: Tensor, queries: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the float32 products of unit vectors `queries` [B D] with each block of the base, and its start.

        A product is -inf where a query meets itself and where it is certainly above `max_similarity`.
        """
        width = BLOCK_SIZES[self.queries.device.type].base
        for start in range(0, len(self.base), width):
            block = queries @ self.base.unit(slice(start, start + width)).T
            if self.exclude_self:
                inside = ((query_idx >= start) & (query_idx < start + width)).nonzero()[:, 0]
                block[inside, query_idx[inside] - start] = -INF
            if self.max_similarity is not None:
                block.masked_fill_(block > self.max_similarity + self.tolerance, -INF)
            yield start, block

    def _compare_all(self, query_idx: Tensor, queries: Tensor, floor: Tensor) -> TopK:
        """Return the best k among all rows whose float32 product is at least `floor` [B]."""
        found = TopK(query_idx.new_full((len(query_idx), self.k), -1), queries.new_full((len(query_idx), self.k), -INF))
        for start, block in self.score_blocks(query_idx, queries):
            near = (block >= floor[:, None]) & (block > -INF)
            columns = near.any(dim=0).nonzero()[:, 0]
            cosines = self._drop_similar(self.queries.cosine_matrix(query_idx, self.base, columns + start))
            cosines.masked_fill_(~near[:, columns], -INF)
            positions = (columns + start).expand(len(query_idx), -1)
            found = self._select(
                torch.cat([found.positions, positions], dim=1), torch.cat([found.scores, cosines], dim=1)
            )
        return found

    def _drop_similar(self, cosines: Tensor) -> Tensor:
        if self.max_similarity is None:
            return cosines
        return cosines.masked_fill_(cosines > self.max_similarity, -INF)

    def _select(self, positions: Tensor, cosines: Tensor) -> TopK:
        """Return the best k of candidates whose equal cosines are in the order of their positions."""
        cosines, order = cosines.sort(dim=1, descending=True, stable=True)
        positions, cosines = positions.gather(1, order)[:, : self.k], cosines[:, : self.k]
        return TopK(positions.masked_fill(cosines == -INF, -1), cosines)


def nearest(base: UnitVectors, k: int, queries: UnitVectors | None = None, *, description: str = "") -> TopK:
    """Return the `k` rows of `base` most similar to each query, or to each row of the base other than itself.

    With a `description`, a progress bar is shown.
    """
    search = ExactSearch(base, k, queries=queries)
    shape, device = (len(search.queries), k), search.queries.device
    found = TopK(torch.empty(shape, dtype=torch.int64, device=device), torch.empty(shape, device=device))
    for query_idx in progress(query_blocks(search.queries), description, unit="rows", size=len):
        found.positions[query_idx], found.scores[query_idx] = search.find(query_idx)
    return found


def query_blocks(queries: UnitVectors, start: int = 0, stop: int | None = None) -> tuple[Tensor, ...]:
    """Return the positions from `start` to `stop` (exclusive; None: the end), split into blocks of queries."""
    positions = torch.arange(start, len(queries) if stop is None else stop, device=queries.device)
    return positions.split(BLOCK_SIZES[queries.device.type].queries)
