"""Coverage: choose the row whose ball holds the most rows that no ball of a labeled or chosen row holds.

ProbCover: Yehuda, Dekel, Hacohen and Weinshall, *Active Learning Through a Covering Lens*, NeurIPS 2022, algorithm 1.
The radius is the largest one at which `PURITY` of the balls hold rows of one cluster only (section 3.2), with clusters
in the place of classes. Balls are over cosines of unit vectors.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from limbeck.core.text import plural
from limbeck.downstream.selection.choice import Available, Choice, Choices, Rows, best
from limbeck.neighbors.search import ExactSearch, query_blocks
from limbeck.neighbors.vectors import UnitVectors

PURITY = 0.95


def coverage(balls: csr_array, labeled: Rows, available: Available) -> Choices:
    """Yield the available row with the most uncovered rows in its ball; of several the smallest row.

    Once every row is covered, all of them count as uncovered again.

    Args:
        balls: [N N], the ball of row i in row i; symmetric, without the diagonal.
        labeled: rows with balls that are covered from the start.
        available: [N].
    """
    cover = _Cover(balls)
    for row in labeled.tolist():
        cover.add(row)
    while available.any():
        if not cover.uncovered.any():
            cover = _Cover(balls)
        row = best(cover.gains, available)
        yield Choice(row, f"{plural(int(cover.gains[row]), 'image')} near it and near no other chosen one")
        cover.add(row)


class _Cover:
    """Which rows are uncovered, and how many uncovered rows each ball holds."""

    def __init__(self, balls: csr_array) -> None:
        self.balls = balls
        self.uncovered = np.ones(balls.shape[0], bool)
        self.gains = np.diff(balls.indptr).astype(np.int64) + 1

    def add(self, row: int) -> None:
        """Cover the ball of a row."""
        members = np.append(self._ball(row), row)
        new = members[self.uncovered[members]]
        self.uncovered[new] = False
        self.gains[new] -= 1
        np.subtract.at(self.gains, np.concatenate([self._ball(member) for member in new] or [new]), 1)

    def _ball(self, row: int) -> NDArray[np.integer]:
        ball: NDArray[np.integer] = self.balls.indices[self.balls.indptr[row] : self.balls.indptr[row + 1]]
        return ball


def ball_graph(vectors: UnitVectors, cosine: float) -> csr_array:
    """Return, for each of N rows, the other rows with at least this cosine, as a boolean matrix [N N]."""
    pairs = []
    for query_idx, start, block in _blocks(vectors):
        row, column = (block >= cosine).nonzero().unbind(dim=1)
        pairs.append(torch.stack([query_idx[row], start + column]))
    rows, columns = torch.cat(pairs, dim=1).numpy()
    return coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(vectors), len(vectors))).tocsr()


def pure_cosine(vectors: UnitVectors, clusters: NDArray[np.int64], purity: float = PURITY) -> float:
    """Return the smallest cosine at which a share `purity` of the balls holds rows of one cluster only.

    A ball is pure above the cosine of the nearest row of another cluster, so this is a quantile of those cosines.
    """
    labels = torch.from_numpy(clusters)
    nearest = torch.full((len(vectors),), -1.0)
    for query_idx, start, block in _blocks(vectors):
        same = labels[query_idx][:, None] == labels[start : start + block.shape[1]]
        nearest[query_idx] = torch.maximum(nearest[query_idx], block.masked_fill_(same, -1.0).amax(dim=1))
    return float(np.nextafter(np.float32(np.quantile(nearest.numpy(), purity, method="inverted_cdf")), np.float32(2)))


def _blocks(vectors: UnitVectors) -> Iterator[tuple[torch.Tensor, int, torch.Tensor]]:
    """Yield cosines of blocks of rows with blocks of rows; -inf where a row meets itself."""
    search = ExactSearch(vectors, 1)
    for query_idx in query_blocks(vectors):
        for start, block in search.score_blocks(query_idx, vectors.unit(query_idx)):
            yield query_idx, start, block
