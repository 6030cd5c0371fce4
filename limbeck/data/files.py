"""The files of a store folder: their names, their manifest, and the writer that makes them appear all at once."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from limbeck.data.decode import Decoded, Pixels
from limbeck.errors import UserError

VERSION = 1
IMAGES, INDEX, MANIFEST, SKIPPED = "images.npy", "index.parquet", "manifest.json", "skipped.csv"
INDEX_SCHEMA = pa.schema(
    {"row": pa.int64(), "path": pa.string(), "label": pa.int64(), "width": pa.int32(), "height": pa.int32()}
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `manifest.json` says of a store; `fingerprint` is that of the source when it was read."""

    version: int = VERSION
    images: int
    skipped: int
    ignored: int
    size: int
    label_names: list[str]
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
        fields = json.loads(path.read_text())
        version = fields["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' cannot be read; delete '{folder}' and build the store again") from error
    if version != VERSION:
        raise UserError(
            f"'{folder}' is a store of version {version} and this limbeck reads version {VERSION}: delete it and "
            f"rebuild it with 'limbeck store {fields.get('source', 'SOURCE')} {folder}'"
        )
    try:
        return Manifest(**fields)
    except TypeError as error:
        raise UserError(f"'{path}' lacks or adds fields; delete '{folder}' and build the store again") from error


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


class StoreWriter:
    """Writes rows one after the other into a hidden sibling of `out`, which becomes `out` when `finish` is called.

    Used as a context manager; left without `finish`, nothing remains on the disk.
    """

    def __init__(self, out: Path, size: int) -> None:
        self.out, self.size, self.rows, self.skipped = out, size, 0, 0
        self._highest = -1
        self._digest = ContentDigest()
        out.parent.mkdir(parents=True, exist_ok=True)
        self._partial = out.with_name(f".{out.name}.partial-{uuid4().hex[:8]}")
        self._partial.mkdir()

    def __enter__(self) -> Self:
        self._images = (self._partial / IMAGES).open("wb")
        self._index = pq.ParquetWriter(self._partial / INDEX, INDEX_SCHEMA)
        self._skips = (self._partial / SKIPPED).open("w", newline="", encoding="utf-8")
        self._write_header()
        csv.writer(self._skips).writerow(["path", "reason"])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def append(self, images: Sequence[Decoded], paths: Sequence[str], labels: Sequence[int]) -> None:
        """Add rows; a label below zero means that there is none."""
        if not images:
            return
        pixels = np.stack([image.pixels for image in images])
        widths, heights = [image.width for image in images], [image.height for image in images]
        labels = [max(label, -1) for label in labels]
        rows = range(self.rows, self.rows + len(images))
        self._images.write(pixels.data)
        self._index.write_batch(
            pa.record_batch([rows, [*map(printable, paths)], labels, widths, heights], schema=INDEX_SCHEMA)
        )
        self._digest.update(pixels, labels, widths, heights)
        self._highest = max(self._highest, *labels)
        self.rows += len(images)

    def skip(self, path: str, reason: str) -> None:
        """Account for a row that is not an image."""
        csv.writer(self._skips).writerow([printable(path), reason])
        self.skipped += 1

    def finish(self, *, label_names: Sequence[str], source: str, fingerprint: str | None, ignored: int) -> None:
        """Complete the files and let the folder appear under its name, in the place of a store that was there."""
        names = name_labels(self._highest, label_names)
        self._images.seek(0)
        self._write_header()
        self._close()
        manifest = Manifest(
            images=self.rows,
            skipped=self.skipped,
            ignored=ignored,
            size=self.size,
            label_names=names,
            digest=self._digest.hexdigest(names),
            source=source,
            fingerprint=fingerprint,
        )
        (self._partial / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        replace_folder(self._partial, self.out)

    def _write_header(self) -> None:
        # numpy pads the header so that the first axis can grow in place: the same length for any number of rows
        shape = (self.rows, self.size, self.size, 3)
        header = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._images, header)

    def _close(self) -> None:
        self._images.close()
        self._index.close()
        self._skips.close()


def name_labels(highest: int, names: Sequence[str]) -> list[str]:
    """`names` when there are any, else '0', '1' ... up to the highest label; UserError when a label has no name."""
    if names and highest >= len(names):
        raise UserError(f"label {highest} has no name: there are {len(names)} label names, for labels from 0")
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
