"""Neighbors by the workers of a runner: a shard is some rows, whose neighbors are searched among all rows.

The neighbors of a row do not depend on the other rows that are searched with it (`ExactSearch`), so that joining
shards in their order gives the bytes of a search in one process.
"""

import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.core.config import Json, from_json, to_json
from limbeck.core.devices import local_device
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write
from limbeck.core.runners.run import RunnerConfig, ShardWork, run_shards
from limbeck.neighbors.ivf import IvfSearch, read_lists
from limbeck.neighbors.search import ExactSearch, query_blocks
from limbeck.neighbors.storage import PAIR
from limbeck.neighbors.vectors import UnitVectors

SHARD = 16_384  # rows: reading the features again does not matter, and a killed worker costs seconds to minutes
MEMORY = 2**32  # bytes of features that the workers of a machine keep, together
SAMPLED = 64  # rows that tell whether two files hold the same features
WORK, JOURNAL = ".shards", "journal.jsonl"  # the folder of a graph that grows, hidden in that of the graph


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """Everything that the neighbors of a shard are a function of, and where they are written."""

    queries: str
    """A .npy file [N D]."""
    base: str | None
    """The file in which neighbors are searched; None: the queries themselves, of which none is its own neighbor."""
    digest: str
    """Of some rows of both."""
    indices: str | None
    """A .npy file of the rows that take part; None: all. Only without `base`."""
    k: int
    max_similarity: float | None
    device: str
    lists: str | None
    """Folder of the lists of an approximate search; None: it is exact."""
    rows: int
    """Queries."""
    shard: int
    """Rows of a shard."""
    folder: str


def file_of(features: Any, folder: Path, name: str = "features") -> Path:
    """Return the .npy file of features; those that are in memory are written into `folder`, which exists."""
    file = getattr(features, "filename", None)
    if file is not None and features.offset == len(_header(Path(file))):
        return Path(file).absolute()
    with atomic_write(folder / f"{name}.npy") as unfinished, unfinished.open("wb") as out:
        np.save(out, np.asarray(features), allow_pickle=False)
    return (folder / f"{name}.npy").absolute()


def digest_of(*files: str | None) -> str:
    """Return a digest of shape, type and some rows of .npy files.

    Raises:
        UserError: a file cannot be read.
    """
    digest = blake2b(digest_size=16)
    for file in files:
        if file is not None:
            values = _open(file)
            rows = np.linspace(0, len(values) - 1, min(SAMPLED, len(values))).astype(np.int64)
            digest.update(f"{values.shape} {values.dtype}".encode())
            digest.update(np.ascontiguousarray(values[rows]).data)
    return digest.hexdigest()


def search_by_shards(spec: SearchSpec, runner: RunnerConfig, description: str) -> Generator[NDArray[Any], None, None]:
    """Let the workers of a runner search, and yield the neighbors of the shards in their order, [n K] of `PAIR`.

    Shards that an earlier call has left are not searched again. When the last one was taken, everything in the folder
    is removed but the journal.

    Raises:
        UserError: as `run_shards`.
    """
    folder = Path(spec.folder)
    _start_over_if_other(spec)
    count = -(-spec.rows // spec.shard)
    work = ShardWork(
        task="limbeck.neighbors.shards:search_shard",
        spec=to_json(spec),
        here=lambda shard, advance: search_shard(to_json(spec), shard),
        size=lambda shard: min(spec.shard, spec.rows - shard * spec.shard),
        journal=folder / JOURNAL,
        description=description,
        unit="rows",
    )
    run_shards(work, [shard for shard in range(count) if not _file(spec, shard).is_file()], runner)
    for shard in range(count):
        yield _open(str(_file(spec, shard)))
    for file in folder.iterdir():
        if file.name != JOURNAL:
            file.unlink()


def search_shard(spec: Json, shard: int) -> None:
    """Write the neighbors of the rows of a shard.

    Raises:
        UserError: this worker finds other features than the command.
    """
    how = from_json(SearchSpec, spec, "the order of a shard")
    search, indices = _load(json.dumps(spec))
    queries = search.exact.queries if isinstance(search, IvfSearch) else search.queries
    start = shard * how.shard
    found = np.empty((min(how.shard, how.rows - start), how.k), PAIR)
    for rows in query_blocks(queries, start, start + len(found)):
        positions, cosines = search.find(rows)
        place = slice(int(rows[0]) - start, int(rows[-1]) - start + 1)
        numbers = positions.cpu().numpy()
        found["neighbor"][place] = np.where(numbers < 0, -1, indices[numbers])
        found["cosine"][place] = cosines.cpu().numpy()
    with atomic_write(_file(how, shard)) as unfinished, unfinished.open("wb") as out:
        np.save(out, found, allow_pickle=False)


@lru_cache(maxsize=1)
def _load(spec: str) -> tuple[ExactSearch | IvfSearch, NDArray[np.int64]]:
    """Return a search and the index of every position of what it searches in."""
    how = from_json(SearchSpec, json.loads(spec))
    if digest_of(how.queries, how.base, how.indices) != how.digest:
        raise UserError(
            f"'{how.queries}' is another file here than where the command was given: give all machines the same files",
            code="source-differs",
        )
    device, memory = local_device(how.device), MEMORY // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    indices = _open(how.indices) if how.indices else None
    queries = UnitVectors(_open(how.queries), indices, device, memory)
    if how.lists is not None:
        lists = read_lists(Path(how.lists))
        return IvfSearch(queries, how.k, how.max_similarity, lists), queries.indices
    base = UnitVectors(_open(how.base), None, device, memory) if how.base else queries
    exact = ExactSearch(base, how.k, how.max_similarity, queries if how.base else None)
    return exact, base.indices


def _start_over_if_other(spec: SearchSpec) -> None:
    """Remove the shards of another search, and record which search the folder is of."""
    folder, record = Path(spec.folder), json.dumps(to_json(spec), sort_keys=True)
    file = folder / "search.json"
    if not file.is_file() or file.read_text(encoding="utf-8") != record:
        for part in folder.glob("neighbors-*.npy"):
            part.unlink()
        with atomic_write(file) as unfinished:
            unfinished.write_text(record, encoding="utf-8")


def _file(spec: SearchSpec, shard: int) -> Path:
    return Path(spec.folder) / f"neighbors-{shard:05d}.npy"


def _open(file: str) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"'{file}' cannot be read ({one_line(error)}): delete it and repeat the command", code="damaged-array"
        ) from error
    return values


def _header(file: Path) -> bytes:
    """Return the bytes before the values of a .npy file."""
    with file.open("rb") as opened:
        version = np.lib.format.read_magic(opened)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        read(opened)
        size = opened.tell()
        opened.seek(0)
        return opened.read(size)
