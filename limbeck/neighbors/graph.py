"""The neighbour graph of a set of features: for every row the K most similar others."""

import time
from collections.abc import Callable
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.files import wait_for_lock
from limbeck.core.progress import progress
from limbeck.neighbors.ivf import PROBES, IvfSearch, lists_of
from limbeck.neighbors.search import BLOCKS, ExactSearch, query_blocks
from limbeck.neighbors.storage import GraphStorage, SearchMethod, Settings, read_settings
from limbeck.neighbors.vectors import Features, UnitVectors

Say = Callable[[str], object]


class Graph(NamedTuple):
    """The K nearest neighbours of n rows of some features."""

    of: NDArray[np.int64]  # [n], the rows, increasing
    rows: NDArray[np.int32]  # [n K], their neighbours by their numbers in the features, best first; -1: none is left
    cosines: NDArray[np.float32]  # [n K], -inf: none is left
    search: SearchMethod


def neighbours(
    features: Features,
    k: int,
    *,
    rows: NDArray[np.int64] | None = None,
    search: Literal["auto", "exact", "ivf"] = "auto",
    max_similarity: float | None = None,
    device: torch.device | str = "cpu",
    folder: str | Path | None = None,
    digest: str = "",
    budget: float = 600.0,
    say: Say = lambda sentence: None,
    show: str = "",
) -> Graph:
    """The `k` rows with the largest cosine to each row, itself excluded by its number; of equal ones the smaller first.

    An exact graph is a function of the features alone: blocks, threads and device do not show in it. Cosines are
    computed in float64 and rounded to float32.

    Args:
        features: [N D], float16, float32 or float64, an array or a memory map; rows of any length but zero.
        k: how many, at most one less than there are rows.
        rows: increasing numbers of the rows that take part; None: all.
        search: "exact", "ivf" (FAISS, approximate), or by an estimate of the time that exact would take.
        drop_above: neighbours of a larger cosine (copies, frames of one film) are left out, and the next best taken.
        device: where products are computed; FAISS runs on the CPU.
        folder: finished blocks are written there, and a call that was ended goes on from them. Of several processes one
            computes and the others wait for it.
        digest: what the features in `folder` are told apart by; needed with it.
        budget: seconds that "auto" gives to an exact search.
        say: gets the choice of "auto" and its reason, as a sentence.
        show: the text of a progress bar; none if empty.

    Raises:
        UserError: `k` is too large, `features` or `rows` are not as above, `folder` holds something else, "ivf" without
            FAISS, or a full disk.
    """
    vectors = UnitVectors(features, rows, torch.device(device))
    if not 1 <= k < len(vectors):
        raise UserError(f"{k} neighbours are asked of {len(vectors):,} rows: 1 to {len(vectors) - 1:,} are possible")
    job = _Job(vectors, k, max_similarity, say, show)
    if folder is None:
        return job.run(job.choose(search, budget), None)
    assert digest, "a folder outlives the call: say what its features are told apart by"
    with wait_for_lock(Path(folder)):
        before = read_settings(Path(folder)) if search == "auto" else None
        way = before.search if before else job.choose(search, budget)
        return job.run(way, GraphStorage(Path(folder), job.settings(way, digest)))


class _Job:
    """One search, with or without a folder."""

    def __init__(self, vectors: UnitVectors, k: int, max_similarity: float | None, say: Say, show: str) -> None:
        self.vectors, self.k, self.max_similarity, self.say, self.show = vectors, k, max_similarity, say, show

    def settings(self, way: SearchMethod, digest: str) -> Settings:
        """What the graph is a function of."""
        return Settings(
            features=digest,
            rows=blake2b(self.vectors.numbers.astype("<i8").tobytes(), digest_size=16).hexdigest(),
            images=len(self.vectors),
            dim=self.vectors.dim,
            k=self.k,
            max_similarity=self.max_similarity,
            search=way,
        )

    def choose(self, search: Literal["auto", "exact", "ivf"], budget: float) -> SearchMethod:
        """How to search, and why, said if there was a choice."""
        installed = find_spec("faiss") is not None
        if search == "ivf" and not installed:
            raise UserError("search 'ivf' needs FAISS: pip install 'limbeck[faiss]', or take search 'exact'")
        if search != "auto":
            return search
        rows, seconds = len(self.vectors), estimate(self.vectors, self.k)
        guess = f"exact neighbours of {rows:,} rows of width {self.vectors.dim} take about {_time(seconds)}"
        if seconds <= budget:
            self.say(f"{guess}, within {_time(budget)}: exact")
            return "exact"
        guess += f", beyond {_time(budget)}"
        if not installed:
            self.say(f"{guess}: exact all the same, without FAISS (pip install 'limbeck[faiss]')")
            return "exact"
        self.say(f"{guess}: FAISS looks into {PROBES} lists of {lists_of(rows):,}")
        return "ivf"

    def run(self, way: SearchMethod, kept: GraphStorage | None) -> Graph:
        """The graph: what is kept, and then the rest."""
        found: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
        done = kept.done if kept else 0
        if done < len(self.vectors):
            kind = IvfSearch if way == "ivf" else ExactSearch
            finder = kind(self.vectors, self.k, self.max_similarity)
            for mine in progress(query_blocks(self.vectors, done), self.show):
                rows, cosines = finder.find(mine)
                block = self._numbers(rows), cosines.cpu().numpy()
                kept.write(*block) if kept else found.append(block)
        rows_, cosines_ = kept.read() if kept else map(np.concatenate, zip(*found, strict=True))
        return Graph(self.vectors.numbers, rows_, cosines_, way)

    def _numbers(self, positions: Tensor) -> NDArray[np.int32]:
        found = positions.cpu().numpy()
        return np.where(found < 0, -1, self.vectors.numbers[found]).astype(np.int32)


def estimate(vectors: UnitVectors, k: int) -> float:
    """Seconds that an exact search would take here, from one block of it; nearly 0 where that would be all."""
    size = BLOCKS[vectors.device.type]
    among = min(len(vectors), size.rows)
    asked = min(among, size.queries)
    if len(vectors) <= among:
        return 0.0
    sample = UnitVectors(vectors.features, vectors.numbers[:among], vectors.device)
    finder = ExactSearch(sample, min(k, among - 1))
    times = []
    for _ in range(2):  # the first one warms up
        start = time.perf_counter()
        finder.find(torch.arange(asked, device=vectors.device)).cosines.cpu()
        times.append(time.perf_counter() - start)
    return times[-1] * (len(vectors) / asked) * (len(vectors) / among)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
