"""The files of a store folder: their names, the manifest, and the digest of the content."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from json import dumps
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from limbeck.core.config import from_json
from limbeck.core.disk import not_readable
from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.core.text import plural
from limbeck.data.fingerprint import FileState
from limbeck.data.pixel_range import Pixels as Pixels

VERSION = 1
MAX_CLASSES = 1_000_000  # unnamed labels get one class each, up to the highest: with ids as labels that would be many
LARGEST_LABEL = 2**62  # stands for all larger labels, which are an error
IMAGES, INDEX, MANIFEST, SKIPPED = "images.npy", "index.parquet", "manifest.json", "skipped.csv"
SOURCE_FILES = "source.parquet"
STORE_FILES = frozenset({IMAGES, INDEX, MANIFEST, SKIPPED, SOURCE_FILES})
SHARD_NAME = re.compile(r"images-\d{5,}\.bin")
DepthValues = Literal["distance", "inverse"]
"""Whether depth grows with distance (meters, millimeters) or with nearness (disparity, what MiDaS predicts)."""
Keep = Literal["raw", "jpeg", "webp"]
"""Storage of the images of a store: pixels in one array, or encoded images in shards."""
INDEX_SCHEMA = pa.schema(
    {"row": pa.int64(), "path": pa.string(), "label": pa.int64(), "width": pa.int32(), "height": pa.int32()}
)
PLACE_SCHEMA = pa.schema({"shard": pa.int32(), "offset": pa.int64(), "bytes": pa.int32()})
"""Further columns of the index of encoded images: where each of them is."""
DIGESTED = ("label", "width", "height", "shard", "offset", "bytes")
"""Columns of the index that the digest of encoded images covers."""
SOURCE_SCHEMA = pa.schema({"path": pa.string(), "bytes": pa.int64(), "modified": pa.int64()})


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of encoded images, back to back; `digest` is a blake2b of its bytes."""

    name: str
    bytes: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`; `fingerprint` is that of the source when the store was built."""

    version: int = VERSION
    images: int
    skipped: int
    ignored: int
    size: int
    label_names: tuple[str, ...]
    labels: str = ""
    """Labels and their origin, or why there are none."""
    digest: str
    source: str
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    max_images: int | None = None
    """Number of samples that were drawn at random from the source; None: all of them."""
    fingerprint: str | None
    depth: DepthValues | None = None
    """What the values of the source were, if it was depth."""
    keep: Keep = "raw"
    quality: int | None = None
    """Of lossy images; None: the pixels are exactly those of the decoded and resized source."""
    shards: tuple[Shard, ...] = ()
    """Of encoded images, in the order of the rows."""


def index_schema(keep: Keep) -> pa.Schema:
    """Return the columns of the index of a store."""
    return INDEX_SCHEMA if keep == "raw" else pa.schema([*INDEX_SCHEMA, *PLACE_SCHEMA])


def shard_name(number: int) -> str:
    """Return the name of the file with the encoded images of a shard."""
    return f"images-{number:05d}.bin"


def is_store_file(name: str) -> bool:
    """Return whether a file of this name belongs to a store."""
    return name in STORE_FILES or SHARD_NAME.fullmatch(name) is not None


def holds_images(folder: Path) -> bool:
    """Return whether a folder has a file with the images of a store, whatever its content."""
    return any(os.path.isfile(folder / name) for name in (IMAGES, shard_name(0)))


def is_store(folder: Path) -> bool:
    """Return whether `folder` has the files of a store, whatever their content."""
    return os.path.isfile(folder / MANIFEST) and holds_images(folder)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a store; UserError where it is missing, damaged or of another version."""
    path = folder / MANIFEST
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"'{folder}' is not a store: it has no {MANIFEST}", code="not-a-store") from error
    except OSError as error:
        raise not_readable(path, error) from error
    remedy = f"delete '{folder}' and build the store again"
    fields = read_json(path, remedy)
    version = fields.get("version") if isinstance(fields, dict) else None
    if version is None:
        raise UserError(f"'{path}' is not the manifest of a store: {remedy}", code="damaged-store")
    if version != VERSION:
        raise UserError(
            f"'{folder}' is a store of version {version!r:.20}, and this Limbeck reads version {VERSION}: delete it "
            f"and build it again with `limbeck store {fields.get('source', 'SOURCE')} {folder}`",
            code="other-store-version",
        )
    try:
        return from_json(Manifest, fields)
    except UserError as error:
        raise UserError(f"'{path}' is damaged ({error}): {remedy}", code="damaged-store") from error


def write_source_files(folder: Path, files: Iterable[FileState]) -> None:
    """Write the states of the source's files, from which later changes are described."""
    states = iter(files)
    with pq.ParquetWriter(folder / SOURCE_FILES, SOURCE_SCHEMA) as writer:
        while some := list(islice(states, 10_000)):
            columns = zip(*((storable(path), size, modified) for path, size, modified in some), strict=True)
            writer.write_batch(pa.record_batch([list(column) for column in columns], schema=SOURCE_SCHEMA))


def read_source_files(folder: Path) -> list[FileState]:
    """Read what `write_source_files` wrote; nothing where the file is missing or damaged: it only explains."""
    try:
        table = pq.read_table(folder / SOURCE_FILES, schema=SOURCE_SCHEMA)
    except (OSError, pa.ArrowException):
        return []
    return [FileState(row["path"], row["bytes"], row["modified"]) for row in table.to_pylist()]


class ContentDigest:
    """Running blake2b of all that training gets from a store: pixels, labels, original sizes, names of the labels."""

    def __init__(self) -> None:
        self._pixels, self._rows = blake2b(digest_size=16), blake2b(digest_size=16)

    def update(self, images: Pixels, labels: ArrayLike, widths: ArrayLike, heights: ArrayLike) -> None:
        """Add rows [n S S 3] in store order; the digest does not depend on how rows are grouped into calls."""
        self._pixels.update(np.ascontiguousarray(images).data)
        self.update_rows(labels, widths, heights)

    def update_shards(self, folder: Path, shards: Iterable[Shard]) -> None:
        """Add encoded images by the digests of their shards, and what the index of the store has of them."""
        for shard in shards:
            self._pixels.update(bytes.fromhex(shard.digest))
        for batch in pq.ParquetFile(folder / INDEX).iter_batches(columns=list(DIGESTED)):
            self.update_rows(*(column.to_numpy() for column in batch.columns))

    def update_rows(self, *columns: ArrayLike) -> None:
        """Add integers of the same number of rows, [n] each."""
        self._rows.update(np.stack(np.broadcast_arrays(*columns), axis=1).astype("<i8").tobytes())

    def hexdigest(self, label_names: Sequence[str]) -> str:
        """Return the digest of everything that was added so far."""
        parts = self._pixels.digest() + self._rows.digest() + dumps(list(label_names)).encode()
        return blake2b(parts, digest_size=16).hexdigest()


def name_labels(highest: int, names: Sequence[str]) -> list[str]:
    """Return `names` if there are any, else '0', '1' ... up to the highest label; UserError as `check_labels`."""
    check_labels(highest, names)
    return list(names) if names else [str(label) for label in range(highest + 1)]


def check_labels(highest: int, names: Sequence[str]) -> None:
    """Raise UserError where the highest label has none of the `names` that there are, or there are too many labels."""
    if names and highest >= len(names):
        raise UserError(
            f"label {highest} has no name, with {plural(len(names), 'name')} in all: name every label from 0 on",
            code="label-without-name",
        )
    if len(names) > MAX_CLASSES:
        raise UserError(
            f"there are {len(names):,} different labels, such as '{names[0]}', and at most {MAX_CLASSES:,} are "
            "possible: if they are names of single images, leave them out",
            code="too-many-labels",
        )
    if highest >= MAX_CLASSES:
        shown = "2^62 or more" if highest >= LARGEST_LABEL else str(highest)
        raise UserError(
            f"a label is {shown}, and labels must be class numbers below {MAX_CLASSES:,}: renumber them from 0",
            code="label-too-large",
        )


def label_array(labels: NDArray[np.integer] | Sequence[int]) -> NDArray[np.int64]:
    """Return labels as int64, with -1 for 'none'."""
    return np.maximum(np.asarray(labels, dtype=np.int64), -1)


def storable(path: str) -> str:
    """Return a path as UTF-8 text: other bytes of a file name become escapes."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")
