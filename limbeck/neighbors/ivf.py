"""Approximate neighbors: a FAISS inverted-file index proposes candidates, which are ranked in float64."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write
from limbeck.neighbors.search import ExactSearch, TopK
from limbeck.neighbors.vectors import BLOCK, UnitVectors

PROBES = 64  # lists searched per query, or more where that finds too few neighbors
RECALL_ROWS = 1000  # that are searched exactly as well
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


def write_lists(lists: Any, file: Path) -> None:
    """Write a FAISS index, with the number of lists that are searched, so that other processes search it."""
    import faiss

    with atomic_write(file) as unfinished:
        faiss.write_index(lists, str(unfinished))


def read_lists(file: Path) -> Any:
    """Return the FAISS index that `write_lists` wrote; UserError where it cannot be read."""
    import faiss

    try:
        return faiss.read_index(str(file))
    except RuntimeError as error:
        raise UserError(
            f"the lists '{file}' cannot be read ({one_line(error):.160}): delete the folder around them and repeat the "
            "command",
            code="damaged-array",
        ) from error


class Recall(NamedTuple):
    """Recall of an approximate search."""

    share: float
    rows: int
    """Rows that were searched exactly as well."""
    probes: int
    """Lists that are searched per query."""


def recall(found: Tensor, exact: Tensor) -> float:
    """Return the share of the exact neighbors that were found, or others of the same cosine in their place.

    Args:
        found: cosines [B k] of a search, best first, -inf where there is no neighbor.
        exact: the same of an exact one.
    """
    last = exact.masked_fill(exact == -torch.inf, torch.inf).amin(dim=1, keepdim=True)
    return int((found >= last).sum()) / max(1, int((exact > -torch.inf).sum()))


class IvfSearch:
    """Like `ExactSearch` of a set within itself, but only among the `PROBES` lists nearest to each query.

    The lists are the cells of a spherical k-means (`faiss.IndexIVFFlat`, inner products of unit vectors; Sivic and
    Zisserman, ICCV 2003; Johnson et al., *Billion-scale similarity search with GPUs*, section 2.2). A query for which
    fewer than k neighbors remain, because its lists are short or near-duplicates were dropped, is searched exactly.
    """

    def __init__(self, vectors: UnitVectors, k: int, max_similarity: float | None = None, lists: Any = None) -> None:
        self.vectors, self.exact = vectors, ExactSearch(vectors, k, max_similarity)
        self.index = build_lists(vectors) if lists is None else lists

    def tune(self, least: float) -> Recall:
        """Search twice as many lists, again and again, until at least a share `least` of the neighbors is found.

        It is measured on `RECALL_ROWS` rows, evenly spaced, which are searched exactly as well.
        """
        rows = torch.linspace(0, len(self.vectors) - 1, min(RECALL_ROWS, len(self.vectors)), dtype=torch.float64)
        rows = rows.long().to(self.vectors.device)
        exact, lists = self.exact.find(rows).scores, int(self.index.nlist)
        while True:
            found = recall(self.find(rows).scores, exact)
            if found >= least or self.index.nprobe >= lists:
                return Recall(found, len(rows), min(int(self.index.nprobe), lists))
            self.index.nprobe *= 2

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
