"""Thumbnails of a store by the workers of a runner: a shard is some rows of one array."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.core.blocks import BlockArrays
from limbeck.core.config import Json, from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.runners.run import RunnerConfig, ShardWork, run_shards
from limbeck.data.store.store import Store
from limbeck.neighbors.near_duplicates import THUMBNAIL_DIM, thumbnails

SHARD = 16_384  # images
NAME, JOURNAL = "thumbnails", "journal.jsonl"


@dataclass(frozen=True, kw_only=True)
class ThumbnailSpec:
    """Everything that a worker needs to compute the thumbnails of a shard."""

    store: str
    digest: str
    rows: int
    shard: int
    folder: str


def thumbnails_by_shards(store: Store, folder: Path, runner: RunnerConfig) -> NDArray[np.float16]:
    """Return the thumbnails of a store, in a file of `folder` that they are read from again.

    Raises:
        UserError: as `run_shards`.
    """
    file = folder / f"{NAME}.npy"
    if not file.is_file():
        spec = ThumbnailSpec(
            store=str(store.path), digest=store.digest, rows=len(store), shard=SHARD, folder=str(folder.absolute())
        )
        arrays = _arrays(spec)
        arrays.create()
        work = ShardWork(
            task="limbeck.neighbors.thumbnail_shards:thumbnail_shard",
            spec=to_json(spec),
            here=lambda shard, advance: thumbnail_shard(to_json(spec), shard),
            size=lambda shard: min(SHARD, len(store) - shard * SHARD),
            journal=folder / JOURNAL,
            description="thumbnails",
        )
        run_shards(work, [rows.start // SHARD for rows in arrays.missing()], runner)
        arrays.move_to(folder)
    found: NDArray[np.float16] = np.load(file, mmap_mode="r", allow_pickle=False)
    return found


def thumbnail_shard(spec: Json, shard: int) -> None:
    """Compute the thumbnails of the rows of a shard.

    Raises:
        UserError: this worker finds another store than the command.
    """
    how = from_json(ThumbnailSpec, spec, "the order of a shard")
    store = Store.open(how.store)
    if store.digest != how.digest:
        raise UserError(
            f"'{how.store}' is another store here than where the command was given: give all machines the same files",
            code="source-differs",
        )
    rows = slice(shard * how.shard, min((shard + 1) * how.shard, how.rows))
    _arrays(how).write(rows, {NAME: thumbnails(store, np.arange(rows.start, rows.stop), show=False)})


def _arrays(spec: ThumbnailSpec) -> BlockArrays:
    folder = Path(spec.folder) / f"pass-{spec.shard}"
    return BlockArrays(folder, spec.rows, {NAME: (THUMBNAIL_DIM,)}, spec.shard, np.float16)
