"""The k-nearest-neighbor graph of a feature matrix."""

import logging
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.locks import wait_for_lock
from limbeck.core.progress import progress
from limbeck.core.runners.run import RunnerConfig, check_runner
from limbeck.core.text import format_duration
from limbeck.neighbors import shards
from limbeck.neighbors.ivf import IvfSearch, num_lists, write_lists
from limbeck.neighbors.search import BLOCK_SIZES, ExactSearch, query_blocks
from limbeck.neighbors.storage import GraphSettings, GraphStorage, SearchMethod, read_settings
from limbeck.neighbors.vectors import FeatureMatrix, UnitVectors

logger = logging.getLogger(__name__)


class Graph(NamedTuple):
    """The K nearest neighbors of n rows of a feature matrix."""

    indices: NDArray[np.int64]  # [n], the rows, increasing
    neighbors: NDArray[np.int32]  # [n K], indices of their neighbors, best first; -1 where none is left
    cosines: NDArray[np.float32]  # [n K], -inf where none is left
    search: SearchMethod
    recall: float = 1.0
    """Share of the nearest neighbors that an approximate search finds, measured on 1,000 rows."""


def build_graph(
    features: FeatureMatrix,
    k: int,
    *,
    indices: NDArray[np.int64] | None = None,
    search: Literal["auto", "exact", "ivf"] = "auto",
    max_similarity: float | None = None,
    device: torch.device | str = "cpu",
    folder: str | Path | None = None,
    digest: str = "",
    budget: float = 600.0,
    min_recall: float = 0.95,
    description: str = "",
    runner: RunnerConfig | None = None,
) -> Graph:
    """Find the `k` rows with the largest cosine to each row, itself excluded; of equal cosines the smaller index first.

    An exact graph is a function of the features alone, whatever the blocks, threads and device. Cosines are computed in
    float64 and rounded to float32.

    Args:
        features: [N D], float16, float32 or float64, an array or a memory map; rows of any length but zero.
        k: neighbors per row, at most one less than there are rows.
        indices: increasing indices of the rows that take part; None for all.
        search: "exact", "ivf" (FAISS, approximate), or "auto", which estimates how long an exact search would take.
        max_similarity: neighbors with a larger cosine (copies, frames of one film) are replaced by the next best.
        device: where products are computed; FAISS runs on the CPU.
        folder: of finished blocks, from which an interrupted call continues. Of several processes one computes.
        digest: identifies the features in `folder`; required with it.
        budget: seconds for which "auto" accepts an exact search.
        min_recall: share of the neighbors of 1,000 rows that "ivf" must find; it searches more lists until it does.
        description: text of a progress bar; no bar if empty.
        runner: whose workers search, each of them some rows; all must see `folder` and the file of the features. The
            graph is the same. None: this process.

    Raises:
        UserError: `k` is too large, `features` or `indices` are not as described, `folder` holds something else, "ivf"
            is requested without FAISS, or the disk is full.
    """
    vectors = UnitVectors(features, indices, torch.device(device))
    _check(k, len(vectors), runner)
    builder = _GraphBuilder(vectors, k, max_similarity, min_recall, description, runner)
    if folder is None:
        assert runner is None, "workers write into a folder"
        return builder.build(builder.choose(search, budget), None)
    assert digest, "a folder outlives the call and needs a digest that identifies its features"
    with wait_for_lock(Path(folder)):
        stored = read_settings(Path(folder)) if search == "auto" else None
        method = stored.search if stored else builder.choose(search, budget)
        return builder.build(method, GraphStorage(Path(folder), builder.settings(method, digest)))


def _check(k: int, rows: int, runner: RunnerConfig | None) -> None:
    if not 1 <= k < rows:
        raise UserError(
            f"{k} neighbors per row were requested for {rows:,} rows; choose 1 to {rows - 1:,}",
            code="too-many-neighbors",
        )
    check_runner(runner or RunnerConfig())


class _GraphBuilder:
    """One search for the neighbors of all rows, with or without a folder."""

    def __init__(
        self,
        vectors: UnitVectors,
        k: int,
        max_similarity: float | None,
        min_recall: float,
        description: str,
        runner: RunnerConfig | None,
    ) -> None:
        self.vectors, self.k, self.max_similarity, self.description = vectors, k, max_similarity, description
        self.min_recall, self.runner = min_recall, runner

    def settings(self, method: SearchMethod, digest: str) -> GraphSettings:
        """Return everything that determines the graph."""
        return GraphSettings(
            features=digest,
            indices=blake2b(self.vectors.indices.astype("<i8").tobytes(), digest_size=16).hexdigest(),
            images=len(self.vectors),
            dim=self.vectors.dim,
            k=self.k,
            max_similarity=self.max_similarity,
            search=method,
        )

    def choose(self, search: Literal["auto", "exact", "ivf"], budget: float) -> SearchMethod:
        """Return the search method; where "auto" decides, log the choice and its reason."""
        installed = find_spec("faiss") is not None
        if search == "ivf" and not installed:
            raise UserError(
                "search 'ivf' needs FAISS: pip install 'limbeck[faiss]', or choose search 'exact'", code="faiss-missing"
            )
        if search != "auto":
            return search
        rows, workers = len(self.vectors), self.runner.workers if self.runner else 1
        seconds = estimate_seconds(self.vectors, self.k) / workers
        cost = f"neighbor search over {rows:,} rows of width {self.vectors.dim}: exact takes about "
        cost += f"{format_duration(seconds)} (budget {format_duration(budget)})"
        if seconds <= budget:
            logger.info("%s, so it is exact", cost)
            return "exact"
        if not installed:
            logger.info("%s; FAISS would be faster (pip install 'limbeck[faiss]') but is not installed: exact", cost)
            return "exact"
        logger.info("%s, so it is approximate, with FAISS", cost)
        return "ivf"

    def build(self, method: SearchMethod, storage: GraphStorage | None) -> Graph:
        """Return the graph; rows that `storage` already holds are not searched again."""
        blocks: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
        found = 1.0 if method == "exact" else self._stored_recall(storage)
        if found is None or not storage or storage.done < len(self.vectors):
            search: ExactSearch | IvfSearch = ExactSearch(self.vectors, self.k, self.max_similarity)
            if method == "ivf":
                search = IvfSearch(self.vectors, self.k, self.max_similarity)
                found = self._tune(search, storage)
            for block in self._search(search, storage):
                storage.write(*block) if storage else blocks.append(block)
        neighbors, cosines_ = storage.read() if storage else map(np.concatenate, zip(*blocks, strict=True))
        return Graph(self.vectors.indices, neighbors, cosines_, method, 1.0 if found is None else found)

    def _search(
        self, search: ExactSearch | IvfSearch, storage: GraphStorage | None
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Yield neighbors and cosines of the rows that are not stored, block by block."""
        if storage and self.runner:
            yield from self._search_by_shards(search, storage, self.runner)
            return
        blocks = query_blocks(self.vectors, storage.done if storage else 0)
        for query_idx in progress(blocks, self.description, unit="rows", size=len):
            positions, cosines = search.find(query_idx)
            yield self._to_indices(positions), cosines.cpu().numpy()

    def _search_by_shards(
        self, search: ExactSearch | IvfSearch, storage: GraphStorage, runner: RunnerConfig
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Yield the same, found by the workers of the runner."""
        done, start = storage.done, 0
        make_folder(work := storage.folder / shards.WORK)
        spec = self._shards(search, work)
        for part in shards.search_by_shards(spec, runner, self.description or "neighbors"):
            rows = part[max(0, done - start) :]
            start += len(part)
            if len(rows):
                yield rows["neighbor"], rows["cosine"]

    def _shards(self, search: ExactSearch | IvfSearch, folder: Path) -> shards.SearchSpec:
        """Return the parameters of the workers' function; write the file that they read, unless there is one."""
        vectors, lists, indices = self.vectors, None, None
        queries = shards.file_of(vectors.features, folder)
        if isinstance(search, IvfSearch):
            write_lists(search.index, folder / "lists.faiss")
            lists = str((folder / "lists.faiss").absolute())
        if len(vectors) < len(vectors.features):
            indices = str(shards.file_of(vectors.indices, folder, "indices"))
        return shards.SearchSpec(
            queries=str(queries),
            base=None,
            digest=shards.digest_of(str(queries), indices),
            indices=indices,
            k=self.k,
            max_similarity=self.max_similarity,
            device=str(vectors.device),
            lists=lists,
            rows=len(vectors),
            shard=shards.SHARD,
            folder=str(folder.absolute()),
        )

    def _stored_recall(self, storage: GraphStorage | None) -> float | None:
        """Return the recall of a stored graph, None where it was not measured or is less than what is asked."""
        found = storage.read_recall() if storage else None
        return found if found is not None and found >= self.min_recall else None

    def _tune(self, search: IvfSearch, storage: GraphStorage | None) -> float:
        """Choose how many lists are searched, and record how many of the neighbors that finds."""
        found, lists = search.tune(self.min_recall), num_lists(len(self.vectors))
        logger.info(
            "FAISS finds %.1f %% of the %d nearest of %d rows in %d of %d lists",
            *(100 * found.share, self.k, found.rows, found.probes, lists),
        )
        if storage:
            storage.write_recall(found)
        return found.share

    def _to_indices(self, positions: Tensor) -> NDArray[np.int32]:
        found = positions.cpu().numpy()
        return np.where(found < 0, -1, self.vectors.indices[found]).astype(np.int32)


def estimate_seconds(vectors: UnitVectors, k: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that an exact search would take here, measured on one block; 0 where one block is all."""
    size = BLOCK_SIZES[vectors.device.type]
    rows = min(len(vectors), size.base)
    queries = min(rows, size.queries)
    if len(vectors) <= rows:
        return 0.0
    search = ExactSearch(UnitVectors(vectors.features, vectors.indices[:rows], vectors.device), min(k, rows - 1))
    times = []
    for _ in range(2):  # the first one warms up
        start = clock()
        search.find(torch.arange(queries, device=vectors.device)).scores.cpu()
        times.append(clock() - start)
    return times[-1] * (len(vectors) / queries) * (len(vectors) / rows)
