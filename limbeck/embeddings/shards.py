"""Embeddings by the workers of a runner: a shard is some blocks of the arrays of a pass."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck.core.blocks import BlockArrays
from limbeck.core.config import Json, from_json
from limbeck.core.errors import UserError

if TYPE_CHECKING:
    from limbeck.embeddings.source import Pass

BLOCKS = 16  # of a shard: 16,384 images, so that loading the network does not matter


@dataclass(frozen=True, kw_only=True)
class EmbedSpec:
    """Everything that a worker needs to compute blocks."""

    store: str
    store_digest: str
    encoder: str
    encoder_digest: str
    shapes: dict[str, list[int]]
    """Shape of a row of every array, by name."""
    rows: int
    block: int
    batch_size: int
    precision: str
    """bf16 or fp32, as the command chose it."""
    device: str
    folder: str


def embed_shard(spec: Json, shard: int) -> None:
    """Compute the blocks of a shard that are not there.

    Raises:
        UserError: this worker finds another store or another network under the names that the command has for them.
    """
    how = from_json(EmbedSpec, spec, "the order of a shard")
    run = _load(how.store, how.encoder, how.precision, how.device, how.batch_size)
    for name, found, wanted in (
        (how.store, run.store.digest, how.store_digest),
        (how.encoder, run.network.digest, how.encoder_digest),
    ):
        if found != wanted:
            raise UserError(
                f"'{name}' is another one here than where the command was given: give all machines the same files",
                code="source-differs",
            )
    shapes = {name: tuple(shape) for name, shape in how.shapes.items()}
    arrays = BlockArrays(Path(how.folder), how.rows, shapes, how.block)
    for rows in arrays.missing():
        if rows.start // how.block // BLOCKS == shard:
            arrays.write(rows, run.compute(rows, shapes))


@lru_cache(maxsize=1)
def _load(store: str, encoder: str, precision: str, device: str, batch_size: int) -> "Pass":
    from limbeck.core.devices import local_device
    from limbeck.data.store.store import Store
    from limbeck.embeddings.config import EmbedConfig
    from limbeck.embeddings.encoders import load_encoder
    from limbeck.embeddings.source import Pass

    exact: Literal["bf16", "fp32"] = "bf16" if precision == "bf16" else "fp32"
    cfg = EmbedConfig(batch_size=batch_size, precision=exact, device=device)
    network, place = load_encoder(encoder, exact), local_device(device)
    network.to(place)
    return Pass(Store.open(store), network, place, cfg)
