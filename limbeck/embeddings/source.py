"""The embeddings of a source: one pass over its images, cached, in any number of processes.

The arrays of a store and an encoder lie in one folder of the cache, one file per depth, and appear whole. A pass fills
the missing ones block by block; a block is always made of the same batches, so that any number of processes computes
the same bits.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.core.blocks import BlockArrays
from limbeck.core.config import to_json
from limbeck.core.devices import choose_device, local_device, resolve_bf16
from limbeck.core.distributed import peer_failure_as_user_error
from limbeck.core.errors import UserError
from limbeck.core.locks import wait_for_folder
from limbeck.core.logs import ensure_visible
from limbeck.core.progress import progress
from limbeck.core.runners.run import RunnerConfig, ShardWork, check_runner, run_shards
from limbeck.data.fingerprint import fingerprint
from limbeck.data.sources.open import Source
from limbeck.data.store.layout import is_store
from limbeck.data.store.open import cache_folder, open_store
from limbeck.data.store.store import Store, read_paths
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder, load_encoder
from limbeck.embeddings.shards import BLOCKS, EmbedSpec, embed_shard
from limbeck.train.config import TrainConfig
from limbeck.train.launch import check_launch, launch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)

VERSION = 1
BLOCK = 1024  # rows, or one batch if that has more: what a killed process computes again

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """Images with their vectors at one depth or several; row i of every array is image i of the store."""

    store: Store
    encoder: FrozenEncoder
    features: Mapping[int, Array]
    """Depth -> [N D_depth], memory-mapped where the images are in a store."""
    maps: Mapping[int, Array]
    """Depth -> [N C H W], where maps were requested."""
    precision: str
    """Precision of the network's computation: bf16 or fp32."""
    folder: Path | None
    """Folder in which the arrays are cached, and what is derived from them may be; None for images in memory."""

    @cached_property
    def paths(self) -> list[str]:
        """Path of every image as its source has it; of images in memory their numbers."""
        return read_paths(self.store)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Label of every image, -1 where there is none."""
        return self.store.labels


def embed_source(
    source: Source | Store,
    encoder: FrozenEncoder | str | PathLike[str],
    *,
    depths: Sequence[int] | None = None,
    maps: bool = False,
    cfg: EmbedConfig | None = None,
) -> Embedded:
    """Return the embeddings of all images of a source at `depths`, computed once and read from the cache from then on.

    Memory does not grow with the number of images. A pass that was killed goes on where it was.

    Args:
        source: a folder, files, a store, ...; or arrays [N H W 3] of uint8, whose embeddings are not cached.
        encoder: what `load_encoder` takes, or its result.
        depths: blocks or stages; None: all that the network has.
        maps: also return the feature maps.
        cfg: the settings.

    Raises:
        UserError: as `load_encoder` and `open_store`; a depth that there is none of; processes that cannot be started.
    """
    ensure_visible()
    cfg = cfg or EmbedConfig()
    _check_processes(source, cfg)
    fabric = _launch(cfg)
    network = encoder if isinstance(encoder, FrozenEncoder) else load_encoder(encoder, cfg.precision)
    wanted = sorted(network.dims) if depths is None else sorted(set(depths))
    network.check_depths(wanted)
    store = open_images(source, network, cfg)
    device = local_device(cfg.device) if fabric else choose_device(cfg.device)
    network.to(device)
    run = Pass(store, network, device, cfg)
    shapes = run.shapes(wanted, maps)
    with _folder(run, fabric) as folder, peer_failure_as_user_error("another process has ended: repeat the command"):
        run.complete(folder, shapes, fabric)
        mode: Literal["r"] | None = "r" if store.path else None
        found = {name: np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False) for name in shapes}
    return Embedded(
        store=store,
        encoder=network,
        features={depth: found[_name(depth)] for depth in wanted},
        maps={depth: found[_name(depth, "map")] for depth in wanted} if maps else {},
        precision=run.precision,
        folder=folder if store.path else None,
    )


class Pass:
    """One pass of a network over the images of a store, in this process, in several, or by the workers of a runner."""

    def __init__(self, store: Store, network: FrozenEncoder, device: torch.device, cfg: EmbedConfig) -> None:
        self.store, self.network, self.device, self.batch_size = store, network, device, cfg.batch_size
        self.precision = "bf16" if resolve_bf16(cfg.precision, device) else "fp32"
        self.images, self._cfg = network.images(store, device), cfg

    @property
    def key(self) -> str:
        """Everything that the numbers are a function of, besides the depth; they differ by rounding with the batch."""
        how = self.network
        settings = [str(VERSION), self.store.digest, how.digest, str((how.image_size, how.mean, how.std))]
        return fingerprint([*settings, how.interpolation, self.precision])[:16]

    def shapes(self, depths: Sequence[int], maps: bool) -> dict[str, tuple[int, ...]]:
        """Return the shape of a row of every array that is needed, by name."""
        shapes: dict[str, tuple[int, ...]] = {_name(depth): (self.network.dims[depth],) for depth in depths}
        if maps:
            found = self.network.features(self.images(np.arange(1)), depths, feature_maps=True).feature_maps
            if len(found) < len(depths):
                raise UserError(
                    f"'{self.network.name}' has no feature maps: name another network, or do without them",
                    code="no-maps",
                )
            shapes |= {_name(depth, "map"): tuple(found[depth].shape[1:]) for depth in depths}
        return shapes

    def complete(self, folder: Path, shapes: Mapping[str, tuple[int, ...]], fabric: "Fabric | None") -> None:
        """Compute the arrays that `folder` does not have."""
        missing = {name: shape for name, shape in shapes.items() if not (folder / f"{name}.npy").is_file()}
        if not missing:
            logger.info("embeddings as computed before, in '%s'", folder)
            return
        block = self.batch_size * max(1, BLOCK // self.batch_size)
        name = fingerprint([*sorted(missing), str(block), str(self.batch_size)])[:16]
        arrays = BlockArrays(folder / f"pass-{name}", len(self.store), missing, block)
        if _is_first(fabric):
            arrays.create()
        _wait(fabric)
        if self._cfg.runner:
            self._run_shards(arrays)
        blocks = arrays.missing()
        _wait(fabric)
        own = blocks[fabric.global_rank :: fabric.world_size] if fabric else blocks
        for rows in progress(own, self.network.name, unit="images", size=lambda rows: rows.stop - rows.start):
            arrays.write(rows, self.compute(rows, missing))
        _wait(fabric)
        if _is_first(fabric):
            arrays.move_to(folder)
        _wait(fabric)

    def _run_shards(self, arrays: BlockArrays) -> None:
        """Let the workers of a runner fill the arrays."""
        images, cfg = arrays.block * BLOCKS, self._cfg
        spec = EmbedSpec(
            store=str(self.store.path),
            store_digest=self.store.digest,
            encoder=self.network.name,
            encoder_digest=self.network.digest,
            shapes={name: list(shape) for name, shape in arrays.shapes.items()},
            rows=arrays.rows,
            block=arrays.block,
            batch_size=self.batch_size,
            precision=self.precision,
            device=cfg.device,
            folder=str(arrays.folder.absolute()),
        )
        work = ShardWork(
            task="limbeck.embeddings.shards:embed_shard",
            spec=to_json(spec),
            here=lambda shard, advance: embed_shard(to_json(spec), shard),
            size=lambda shard: min(images, arrays.rows - shard * images),
            journal=arrays.folder / "journal.jsonl",
            description=self.network.name,
        )
        shards = sorted({rows.start // images for rows in arrays.missing()})
        run_shards(work, shards, RunnerConfig(runner=cfg.runner, workers=cfg.workers, args=cfg.runner_args))

    def compute(self, rows: slice, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
        """Return the values of the rows of one block, by name."""
        values = {name: np.empty((rows.stop - rows.start, *shape), np.float32) for name, shape in shapes.items()}
        depths = sorted({int(name.partition("-")[2]) for name in shapes})
        maps = any(name.startswith("map") for name in shapes)
        for start in range(rows.start, rows.stop, self.batch_size):
            part = slice(start, min(start + self.batch_size, rows.stop))
            found = self.network.features(self.images(np.arange(part.start, part.stop)), depths, maps)
            inside = slice(part.start - rows.start, part.stop - rows.start)
            for name in shapes:
                tensors = found.feature_maps if name.startswith("map") else found.taps
                values[name][inside] = tensors[int(name.partition("-")[2])].float().cpu().numpy()
        return values


def _name(depth: int, kind: str = "depth") -> str:
    return f"{kind}-{depth}"


def _launch(cfg: EmbedConfig) -> "Fabric | None":
    """Start and connect the processes, where there are to be several."""
    accelerator: Any = choose_device(cfg.device).type
    train = TrainConfig(devices=cfg.devices, accelerator=accelerator)
    check_launch(train)
    return launch(train) if cfg.devices > 1 else None


def _is_first(fabric: "Fabric | None") -> bool:
    return fabric is None or fabric.global_rank == 0


def _wait(fabric: "Fabric | None") -> None:
    """Wait for every process."""
    if fabric:
        fabric.barrier()


def _check_processes(source: Source | Store, cfg: EmbedConfig) -> None:
    """Raise UserError for images in memory and several processes, each of which would have its own."""
    check_runner(RunnerConfig(runner=cfg.runner, workers=cfg.workers))
    in_memory = source.path is None if isinstance(source, Store) else isinstance(source, np.ndarray)
    if in_memory and (cfg.devices > 1 or cfg.runner):
        raise UserError(
            f"images in memory cannot be divided among {max(cfg.devices, cfg.workers)} processes: give a store or a "
            "folder, or take devices=1 and no runner",
            code="images-in-memory",
        )


def open_images(source: Source | Store, network: FrozenEncoder, cfg: EmbedConfig) -> Store:
    """Return the images of a source at the size that the network was trained on: what `embed_source` computes from.

    For those who check something about the images before they are embedded; a store is returned as it is.
    """
    choose_device(cfg.device)  # one that is not there is found before images are decoded
    if isinstance(source, Store):
        return source
    if isinstance(source, np.ndarray):
        return Store.from_arrays(source)
    own = isinstance(source, str | Path) and is_store(Path(source))
    store = open_store(source, None, None if own else network.store_size, cfg.allow_bad, cfg.exclude, cfg.only)
    if store.skipped:
        logger.info(store.summary())
    return store


@contextmanager
def _folder(run: Pass, fabric: "Fabric | None") -> Iterator[Path]:
    """Yield the folder of the arrays, locked; of images in memory a temporary one."""
    if run.store.path is None:
        with tempfile.TemporaryDirectory(prefix="limbeck-") as place:
            yield Path(place)
        return
    folder = cache_folder(None) / f"embeddings-{run.key}"
    if not _is_first(fabric):
        _wait(fabric)
        yield folder
        return
    with wait_for_folder(folder):
        _wait(fabric)
        yield folder
