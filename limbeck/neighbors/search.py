"""The most similar rows, exactly: products in float32 find candidates, float64 decides among them.

A product in float32 is off by a few units of 1e-7, by how much depends on the shapes of the blocks, the device and the
number of threads; and where images are copies of each other, the order of their products is noise. So candidates are
compared once more, in float64, and where float32 cannot tell the last of the chosen from the first of the others, every
row that comes into question is. What is found is therefore a function of the rows alone.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.losses.precision import exact_products
from limbeck.neighbors.vectors import UnitVectors

SPARE = 6  # candidates beyond k: of 4,096 CIFAR-10 thumbnails 5 were undecided with 1 and none with 6
INF = float("inf")


class Blocks(NamedTuple):
    """How many queries are compared with how many rows at once."""

    queries: int
    rows: int


BLOCKS = {"cpu": Blocks(4096, 8192), "cuda": Blocks(8192, 65_536)}
"""Scores of one block take 128 MiB, and 2 GiB on a GPU."""


class Found(NamedTuple):
    """Of some queries: positions [B k] int64 of the rows found and their cosines [B k] float32, best first.

    Where fewer than k are left, the rest are -1 and -inf.
    """

    rows: Tensor
    cosines: Tensor


class ExactSearch:
    """The `k` rows of `base` with the largest cosines; of equal ones the smaller row first.

    Args:
        base: among which.
        k: at most as many as there are.
        drop_above: rows with a larger cosine than this are left out.
        queries: whose neighbours are wanted; None: those of the base, where no row is its own neighbour.
    """

    def __init__(
        self, base: UnitVectors, k: int, max_similarity: float | None = None, queries: UnitVectors | None = None
    ) -> None:
        assert k <= len(base) - (queries is None)
        self.queries, self.base, self.k, self.max_similarity = queries or base, base, k, max_similarity
        self.alone = queries is None
        self.deep = min(k + SPARE, len(base))
        self.slack = 2**-22 * base.dim**0.5  # 3 to 30 times the largest error seen, 16 <= D <= 2048

    def find(self, mine: Tensor) -> Found:
        """Neighbours of the queries at positions `mine` [B]."""
        with exact_products(self.queries.device):
            asked = self.queries.unit(mine)
            rows, scores = self._candidates(mine, asked)
            found = self.ranked(mine, rows, scores > -INF)
            last, worst = found.cosines[:, -1], scores[:, -1]
            unsure = (worst > -INF) & (worst + self.slack >= last)
            if self.deep < len(self.base) and bool(unsure.any()):
                settled = self._settle(mine[unsure], asked[unsure], last[unsure] - self.slack)
                found.rows[unsure], found.cosines[unsure] = settled
        return found

    def ranked(self, mine: Tensor, rows: Tensor, valid: Tensor) -> Found:
        """The best k of the candidates `rows` [B c] that are `valid`, by their cosines in float64."""
        rows, order = rows.sort(dim=1)
        cosines = self._kept(self.queries.cosines(mine, self.base, rows)).masked_fill_(~valid.gather(1, order), -INF)
        return self._best(rows, cosines)

    def scores(self, mine: Tensor, asked: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Products [B n] of the unit rows `asked` with a block of the base, and the position at which it starts.

        -inf where a query meets itself, and where a product is surely above `max_similarity`.
        """
        width = BLOCKS[self.queries.device.type].rows
        for start in range(0, len(self.base), width):
            block = asked @ self.base.unit(slice(start, start + width)).T
            if self.alone:
                here = ((mine >= start) & (mine < start + width)).nonzero()[:, 0]
                block[here, mine[here] - start] = -INF
            if self.max_similarity is not None:
                block.masked_fill_(block > self.max_similarity + self.slack, -INF)
            yield start, block

    def _candidates(self, mine: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and float32 products [B deep], the largest first."""
        rows = mine.new_empty(len(mine), 0)
        best = asked.new_empty(len(mine), 0)
        for start, block in self.scores(mine, asked):
            top = block.topk(min(self.deep, block.shape[1]))
            best, rows = torch.cat([best, top.values], dim=1), torch.cat([rows, top.indices + start], dim=1)
            best, order = best.topk(min(self.deep, best.shape[1]))
            rows = rows.gather(1, order)
        return rows, best

    def _settle(self, mine: Tensor, asked: Tensor, floor: Tensor) -> Found:
        """The best k of all rows whose product is at least `floor` [B]."""
        found = Found(mine.new_full((len(mine), self.k), -1), asked.new_full((len(mine), self.k), -INF))
        for start, block in self.scores(mine, asked):
            near = (block >= floor[:, None]) & (block > -INF)
            columns = near.any(dim=0).nonzero()[:, 0]
            cosines = self._kept(self.queries.table(mine, self.base, columns + start))
            cosines.masked_fill_(~near[:, columns], -INF)
            rows = (columns + start).expand(len(mine), -1)
            found = self._best(torch.cat([found.rows, rows], dim=1), torch.cat([found.cosines, cosines], dim=1))
        return found

    def _kept(self, cosines: Tensor) -> Tensor:
        return cosines if self.max_similarity is None else cosines.masked_fill_(cosines > self.max_similarity, -INF)

    def _best(self, rows: Tensor, cosines: Tensor) -> Found:
        """Of columns whose equal cosines stand in the order of their rows."""
        cosines, order = cosines.sort(dim=1, descending=True, stable=True)
        rows, cosines = rows.gather(1, order)[:, : self.k], cosines[:, : self.k]
        return Found(rows.masked_fill(cosines == -INF, -1), cosines)


def nearest(base: UnitVectors, k: int, queries: UnitVectors | None = None) -> Found:
    """The `k` rows of `base` that are most similar to each row of `queries` (of the base, itself excluded, without)."""
    search = ExactSearch(base, k, queries=queries)
    parts = [search.find(mine) for mine in query_blocks(search.queries)]
    return Found(*(torch.cat(column) for column in zip(*parts, strict=True)))


def query_blocks(queries: UnitVectors, start: int = 0) -> tuple[Tensor, ...]:
    """Positions from `start` on, in blocks."""
    return torch.arange(start, len(queries), device=queries.device).split(BLOCKS[queries.device.type].queries)
