"""The files of a store folder: their names, their manifest, and what their content is told apart by."""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from limbeck.core.config import from_json
from limbeck.core.errors import UserError
from limbeck.data.fingerprint import FileState

Pixels = NDArray[np.uint8]
VERSION = 1
MOST_CLASSES = 1_000_000  # labels without names get one each, up to the highest: a label that is an id would need many
IMAGES, INDEX, MANIFEST, SKIPPED = "images.npy", "index.parquet", "manifest.json", "skipped.csv"
SOURCE = "source.parquet"
INDEX_SCHEMA = pa.schema(
    {"row": pa.int64(), "path": pa.string(), "label": pa.int64(), "width": pa.int32(), "height": pa.int32()}
)
SOURCE_SCHEMA = pa.schema({"path": pa.string(), "bytes": pa.int64(), "modified": pa.int64()})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `manifest.json` says of a store; `fingerprint` is that of the source when it was read."""

    version: int = VERSION
    images: int
    skipped: int
    ignored: int
    size: int
    label_names: tuple[str, ...]
    digest: str
    source: str
    fingerprint: str | None


def is_store(folder: Path) -> bool:
    """Whether `folder` has the files of a store; nothing is said of their content."""
    return (folder / MANIFEST).is_file() and (folder / IMAGES).is_file()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a store; UserError where it is missing, broken or of another version."""
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"'{folder}' is not a store: it has no {MANIFEST}")
    try:
        fields = json.loads(path.read_bytes())
        version = fields["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read; delete '{folder}' and build the store again") from error
    if version != VERSION:
        raise UserError(
            f"'{folder}' is a store of version {version} and this limbeck reads version {VERSION}: delete it and "
            f"rebuild it with 'limbeck store {fields.get('source', 'SOURCE')} {folder}'"
        )
    try:
        return from_json(Manifest, fields)
    except UserError as error:
        raise UserError(f"'{path}' is broken ({error}); delete '{folder}' and build the store again") from error


def write_source(folder: Path, files: Iterable[FileState]) -> None:
    """Keep the state of the source's files, so that a later look can say what changed."""
    states = iter(files)
    with pq.ParquetWriter(folder / SOURCE, SOURCE_SCHEMA) as writer:
        while some := list(islice(states, 10_000)):
            columns = zip(*((printable(path), size, modified) for path, size, modified in some), strict=True)
            writer.write_batch(pa.record_batch([list(column) for column in columns], schema=SOURCE_SCHEMA))


def read_source_files(folder: Path) -> list[FileState]:
    """What `write_source` kept; nothing where it is not there or broken, for it only serves to explain."""
    try:
        table = pq.read_table(folder / SOURCE, schema=SOURCE_SCHEMA)
    except (OSError, pa.ArrowException):
        return []
    return [FileState(row["path"], row["bytes"], row["modified"]) for row in table.to_pylist()]


class ContentDigest:
    """Running blake2b of what training sees of a store: pixels, labels, original sizes and the names of the labels."""

    def __init__(self) -> None:
        self._pixels, self._rows = blake2b(digest_size=16), blake2b(digest_size=16)

    def update(self, images: Pixels, labels: ArrayLike, widths: ArrayLike, heights: ArrayLike) -> None:
        """Add rows [n S S 3] in store order; the digest does not depend on how rows are grouped into calls."""
        self._pixels.update(np.ascontiguousarray(images).data)
        self._rows.update(np.stack(np.broadcast_arrays(labels, widths, heights), axis=1).astype("<i8").tobytes())

    def hexdigest(self, label_names: Sequence[str]) -> str:
        """The digest of everything added so far."""
        parts = self._pixels.digest() + self._rows.digest() + json.dumps(list(label_names)).encode()
        return blake2b(parts, digest_size=16).hexdigest()


def name_labels(highest: int, names: Sequence[str]) -> list[str]:
    """`names` when there are any, else '0', '1' ... up to the highest label; UserError when a label has no name."""
    if names and highest >= len(names):
        raise UserError(f"label {highest} has no name: there are {len(names)} label names, for labels from 0")
    if highest >= MOST_CLASSES:
        raise UserError(f"a label is {highest}, and labels count classes from 0: number them anew, without gaps")
    return list(names) if names else [str(label) for label in range(highest + 1)]


def replace_folder(new: Path, out: Path) -> None:
    """Rename `new` to `out`; a folder that is there is moved aside first and deleted last."""
    aside = new.with_name(f"{new.name}.old")
    if out.exists():
        out.rename(aside)
    new.rename(out)
    shutil.rmtree(aside, ignore_errors=True)


def label_array(labels: NDArray[np.integer] | Sequence[int]) -> NDArray[np.int64]:
    """Labels as int64, with -1 for 'none'."""
    return np.maximum(np.asarray(labels, dtype=np.int64), -1)


def printable(path: str) -> str:
    """A path as text: bytes of a file name that are not UTF-8 become replacement characters."""
    return path.encode(errors="surrogateescape").decode(errors="replace")
