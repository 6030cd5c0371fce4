"""The most similar rows, nearly: FAISS looks into a few of many lists, and what it finds is compared in float64."""

import math

import torch
from torch import Tensor

from limbeck.neighbors.search import ExactSearch, Found
from limbeck.neighbors.vectors import BLOCK, UnitVectors

PROBES = 64  # lists that a query looks into
PER_LIST = 64  # rows that the centre of a list is learnt from


def lists_of(rows: int) -> int:
    """Into how many lists rows are put; no list need be empty."""
    return max(1, min(round(4 * math.sqrt(rows)), rows // 39))  # FAISS warns of fewer than 39 rows a list


class IvfSearch:
    """As `ExactSearch` of one set in itself, but only within the `PROBES` of about 4 sqrt(n) lists nearest to a query.

    Lists are the cells of a spherical k-means (`faiss.IndexIVFFlat`, inner products of unit rows; Sivic and Zisserman,
    ICCV 2003; Johnson et al., *Billion-scale similarity search with GPUs*, section 2.2). A query of which fewer than k
    are found, because its lists hold no more or because copies were dropped, is searched exactly.
    """

    def __init__(self, vectors: UnitVectors, k: int, max_similarity: float | None = None) -> None:
        import faiss

        self.vectors, self.exact = vectors, ExactSearch(vectors, k, max_similarity)
        lists = lists_of(len(vectors))
        cells = faiss.IndexFlatIP(vectors.dim)
        self.index = faiss.IndexIVFFlat(cells, vectors.dim, lists, faiss.METRIC_INNER_PRODUCT)
        self.index.cp.spherical = True
        self.index.nprobe = PROBES
        sample = torch.arange(len(vectors), device=vectors.device)[:: max(1, len(vectors) // (lists * PER_LIST))]
        self.index.train(vectors.unit(sample).cpu().numpy())
        for start in range(0, len(vectors), BLOCK):
            self.index.add(vectors.unit(slice(start, start + BLOCK)).cpu().numpy())

    def find(self, mine: Tensor) -> Found:
        """Neighbours of the rows at positions `mine` [B]."""
        _, rows = self.index.search(self.vectors.unit(mine).cpu().numpy(), self.exact.deep)
        candidates = torch.from_numpy(rows).to(mine.device)
        valid = (candidates >= 0) & (candidates != mine[:, None])
        found = self.exact.ranked(mine, candidates.clamp(min=0), valid)
        short = found.rows[:, -1] < 0
        if bool(short.any()):
            found.rows[short], found.cosines[short] = self.exact.find(mine[short])
        return found
