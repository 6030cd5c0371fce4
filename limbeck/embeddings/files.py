"""Files of embeddings: parquet, npy or csv, written block by block, and each with the encoder that made it."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from limbeck.core.config import from_json, to_json
from limbeck.core.disk import check_writable, make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, read_json, write_json
from limbeck.core.text import csv_cell
from limbeck.embeddings.source import Embedded

VERSION = 1
KEY = b"limbeck"
"""Key of the metadata of a parquet file that holds `About` as JSON."""
ROWS = 4096  # of a block
Suffix = Literal[".parquet", ".npy", ".csv"]
SUFFIXES: tuple[Suffix, ...] = (".parquet", ".npy", ".csv")
_SIBLINGS: Mapping[str, tuple[str, ...]] = {".npy": (".maps.npy", ".csv", ".json"), ".csv": (".json",)}
"""Ends of the names of the files that are written beside a file."""


@dataclass(frozen=True, kw_only=True)
class About:
    """Metadata of a file of embeddings."""

    version: int = VERSION
    encoder: str
    """The network as it was named; of a folder the last part."""
    digest: str
    """Of its weights, its architecture and the size of its input: vectors of another digest are not comparable."""
    depth: int
    dim: int
    image_size: int
    precision: str
    images: int
    store: str
    """Digest of the images."""
    label_names: tuple[str, ...]
    map_shape: tuple[int, ...] | None = None
    """Channels, height and width of the maps, where there are any."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingRows:
    """Contents of a file of embeddings; row i of every array is of path i."""

    about: About
    paths: Sequence[str]
    labels: NDArray[np.int64]
    """[N], -1 where there is none."""
    vectors: NDArray[np.float32]
    """[N D]."""
    maps: NDArray[np.float32] | None = None
    """[N C H W]."""


def check_out(out: Path, *, maps: bool) -> None:
    """Raise UserError unless embeddings can be written to `out`, which may be a file of embeddings already."""
    if out.suffix not in SUFFIXES:
        raise UserError(f"'{out}' must end in {', '.join(SUFFIXES)}: the ending is the format", code="unknown-format")
    if maps and out.suffix == ".csv":
        raise UserError(f"'{out}' cannot hold maps: choose {SUFFIXES[0]} or {SUFFIXES[1]}", code="no-maps-in-csv")
    check_writable(out.absolute().parent)
    taken = [path for path in (out, *(_sibling(out, end) for end in _SIBLINGS.get(out.suffix, ()))) if path.exists()]
    if not taken:
        return
    with suppress(UserError):
        read_about(out)
        return
    raise UserError(f"'{taken[0]}' exists and holds no embeddings of Limbeck's: choose another name", code="not-ours")


def read_about(path: Path) -> About:
    """Return the metadata of a file of embeddings; UserError if it is none."""
    found: Any = None
    if path.suffix == ".parquet":
        with suppress(OSError, ValueError, pa.ArrowException):
            found = json.loads((pq.read_schema(path).metadata or {})[KEY]) if path.is_file() else None
    elif path.is_file() and _sibling(path, ".json").is_file():
        found = read_json(_sibling(path, ".json"))
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise UserError(
            f"'{path}' is no file of embeddings of this version: write one with `limbeck embed`", code="not-embeddings"
        )
    return from_json(About, found, str(path))


def write_embeddings(found: Embedded, depth: int, out: Path) -> About:
    """Write the vectors of one depth, and its maps if there are any, to `out`; see docs/explore.md for the formats."""
    maps = found.maps.get(depth)
    about = About(
        encoder=found.encoder.label,
        digest=found.encoder.digest,
        depth=depth,
        dim=found.encoder.dims[depth],
        image_size=found.encoder.image_size,
        precision=found.precision,
        images=len(found.store),
        store=found.store.digest,
        label_names=tuple(found.store.label_names),
        map_shape=None if maps is None else maps.shape[1:],
    )
    rows = EmbeddingRows(about=about, paths=found.paths, labels=found.labels, vectors=found.features[depth], maps=maps)
    write_rows(rows, out)
    return about


def write_rows(found: EmbeddingRows, out: Path) -> None:
    """Write rows that are computed already, such as those of series, to `out`."""
    make_folder(out.absolute().parent)
    _WRITERS[out.suffix](found, out)


def _write_parquet(found: EmbeddingRows, out: Path) -> None:
    def vectors(rows: NDArray[np.float32]) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows[0].size)

    columns = {"vector": found.vectors} | ({} if found.maps is None else {"map": found.maps})
    schema = pa.schema(
        [("path", pa.string()), ("label", pa.string())]
        + [(name, pa.list_(pa.float32(), int(np.prod(array.shape[1:])))) for name, array in columns.items()],
        metadata={KEY: json.dumps(to_json(found.about))},
    )
    with atomic_write(out) as unfinished, pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        for rows, paths, labels in _blocks(found):
            arrays = [vectors(read_rows(array, rows)) for array in columns.values()]
            writer.write_batch(pa.record_batch([pa.array(paths), pa.array(labels, pa.string()), *arrays], schema))


def _write_npy(found: EmbeddingRows, out: Path) -> None:
    arrays = {out: found.vectors}
    if found.maps is not None:
        arrays[_sibling(out, ".maps.npy")] = found.maps
    for path, array in arrays.items():
        with atomic_write(path) as unfinished, unfinished.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": array.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for rows, _, _ in _blocks(found):
                file.write(read_rows(array, rows).astype("<f4", copy=False).data)
    _write_rows(
        found, _sibling(out, ".csv"), ["path", "label"], lambda rows: [[] for _ in range(rows.start, rows.stop)]
    )
    write_json(_sibling(out, ".json"), to_json(found.about))


def _write_csv(found: EmbeddingRows, out: Path) -> None:
    array, header = found.vectors, ["path", "label", *map(str, range(found.about.dim))]
    _write_rows(found, out, header, lambda rows: [[f"{x:.9g}" for x in row] for row in read_rows(array, rows).tolist()])
    write_json(_sibling(out, ".json"), to_json(found.about))


def _write_rows(found: EmbeddingRows, out: Path, header: list[str], more: Callable[[slice], list[list[str]]]) -> None:
    """Write path and label of every image, and what `more` returns for the rows of a block."""
    with atomic_write(out) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for rows, paths, labels in _blocks(found):
            for path, label, values in zip(paths, labels, more(rows), strict=True):
                writer.writerow([csv_cell(path), csv_cell(label or ""), *values])


_WRITERS: Mapping[str, Callable[[EmbeddingRows, Path], None]] = {
    ".parquet": _write_parquet,
    ".npy": _write_npy,
    ".csv": _write_csv,
}


def _blocks(found: EmbeddingRows) -> Iterator[tuple[slice, list[str], list[str | None]]]:
    """Yield rows with their paths and the names of their labels."""
    names, labels = found.about.label_names, found.labels
    for start in range(0, len(labels), ROWS):
        rows = slice(start, min(start + ROWS, len(labels)))
        yield rows, list(found.paths[rows]), [names[label] if label >= 0 else None for label in labels[rows]]


def read_rows(array: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
    """Return a copy of some rows; of a memory map through a mapping of its own, so that no memory stays with it."""
    if not isinstance(array, np.memmap):
        return array[rows]
    row, place = int(np.prod(array.shape[1:])), str(array.filename)
    count, offset = (rows.stop - rows.start) * row, array.offset + 4 * row * rows.start
    values: NDArray[np.float32] = np.fromfile(place, np.float32, count, offset=offset)
    return values.reshape(-1, *array.shape[1:])


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(path.stem + suffix)
