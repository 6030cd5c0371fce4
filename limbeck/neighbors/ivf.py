"""Approximate neighbors: a FAISS inverted-file index proposes candidates, which are ranked in float64."""

import math
from typing import Any

import torch
from torch import Tensor

from limbeck.neighbors.search import ExactSearch, TopK
from limbeck.neighbors.vectors import BLOCK, UnitVectors

PROBES = 64  # lists searched per query
TRAINING_ROWS_PER_LIST = 64
MIN_ROWS_PER_LIST = 39  # FAISS warns below


def num_lists(rows: int) -> int:
    """Return the number of inverted lists for `rows` vectors, about 4 sqrt(rows)."""
    return max(1, min(round(4 * math.sqrt(rows)), rows // MIN_ROWS_PER_LIST))


def build_lists(vectors: UnitVectors) -> Any:
    """Return a `faiss.IndexIVFFlat` of unit vectors, trained on a sample of them; position i of it is row i."""
    import faiss

    lists = num_lists(len(vectors))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.dim), vectors.dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.spherical = True
    index.nprobe = PROBES
    stride = max(1, len(vectors) // (lists * TRAINING_ROWS_PER_LIST))
    sample = torch.arange(len(vectors), device=vectors.device)[::stride]
    index.train(vectors.unit(sample).cpu().numpy())
    for start in range(0, len(vectors), BLOCK):
        index.add(vectors.unit(slice(start, start + BLOCK)).cpu().numpy())
    return index


class IvfSearch:
    """Like `ExactSearch` of a set within itself, but only among the `PROBES` lists nearest to each query.

    The lists are the cells of a spherical k-means (`faiss.IndexIVFFlat`, inner products of unit vectors; Sivic and
    Zisserman, ICCV 2003; Johnson et al., *Billion-scale similarity search with GPUs*, section 2.2). A query for which
    fewer than k neighbors remain, because its lists are short or near-duplicates were dropped, is searched exactly.
    """

    def __init__(self, vectors: UnitVectors, k: int, max_similarity: float | None = None) -> None:
        self.vectors, self.exact = vectors, ExactSearch(vectors, k, max_similarity)
        self.index = build_lists(vectors)

    def find(self, query_idx: Tensor) -> TopK:
        """Return the neighbors of the rows at positions `query_idx` [B]."""
        _, positions = self.index.search(self.vectors.unit(query_idx).cpu().numpy(), self.exact.num_candidates)
        candidate_idx = torch.from_numpy(positions).to(query_idx.device)
        valid = (candidate_idx >= 0) & (candidate_idx != query_idx[:, None])
        found = self.exact.rank(query_idx, candidate_idx.clamp(min=0), valid)
        short = found.positions[:, -1] < 0
        if bool(short.any()):
            found.positions[short], found.scores[short] = self.exact.find(query_idx[short])
        return found
