"""Images in the columns of parquet files and other Arrow tables."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.core.errors import UserError, one_line
from limbeck.data.decode import Content, UndecodableError
from limbeck.data.fingerprint import file_state, state_fingerprint
from limbeck.data.sources.base import ImageSource, Sample, SourceType

LABELS = ("label", "labels", "class", "cls")
BATCH = 64  # rows read at a time: encoded images may have megabytes each

Batches = Callable[[Sequence[str]], Iterator[tuple[str, Any]]]
"""From the names of columns to pairs (name of a file, record batch or table)."""


class Columns(NamedTuple):
    """The columns of images and labels, and the names that the schema gives to labels."""

    image: str
    label: str | None
    label_names: list[str]


def open_parquet(files: Sequence[Path], name: str) -> ImageSource:
    """Return the rows of parquet files, in the order given; UserError where a file or its columns cannot be read."""
    with arrow_errors(name):
        tables = [pq.ParquetFile(file) for file in files]

    def batches(columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
        for file, table in zip(files, tables, strict=True):
            with arrow_errors(str(file)):
                for batch in table.iter_batches(batch_size=BATCH, columns=list(columns)):
                    yield file.name, batch

    roots = list(dict.fromkeys(file.parent for file in files))
    count = sum(table.metadata.num_rows for table in tables)
    states = [file_state(file) for file in files]
    source = table_source(name, tables[0].schema_arrow, batches, count, roots)
    return replace(source, fingerprint=state_fingerprint(states), files=lambda: iter(states))


@contextmanager
def arrow_errors(name: str) -> Iterator[None]:
    """Turn what pyarrow raises on a broken file into a UserError."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: text that is not UTF-8
        raise UserError(
            f"'{name}' cannot be read as parquet ({one_line(error)}): copy or write it again", code="bad-parquet"
        ) from error


def table_source(name: str, schema: Any, batches: Batches, count: int, roots: Sequence[Path]) -> ImageSource:
    """Return the rows of a table with an image column and, if there is one, a label column of integers or strings.

    A cell may name a file instead of holding bytes; it is read if it is below one of the folders `roots`.
    """
    columns = find_columns(schema, name)
    wanted = [columns.image] if columns.label is None else [columns.image, columns.label]
    names = columns.label_names
    by_name: dict[str, int] = {}
    if columns.label is not None and not pa.types.is_integer(schema.field(columns.label).type):
        found = {value for _, batch in batches([columns.label]) for value in batch[columns.label].to_pylist()}
        names = sorted(found - {None})
        by_name = {value: label for label, value in enumerate(names)}

    def samples() -> Iterator[Sample]:
        row = 0
        for where, batch in batches(wanted):
            labels = [None] * len(batch) if columns.label is None else batch[columns.label].to_pylist()
            for cell, label in zip(batch[columns.image].to_pylist(), labels, strict=True):
                number = by_name.get(label, -1) if by_name else label
                path = cell_path(cell) or f"{where}#{row}"
                yield Sample(path, cell_content(cell, roots), -1 if number is None else number)
                row += 1

    return ImageSource(name=name, samples=samples, count=count, label_names=names)


def find_columns(schema: Any, name: str) -> Columns:
    """Find the columns by their Hugging Face features, else by type and name; UserError when none holds images."""
    features = column_features(schema, name)
    kinds = {column: kind["_type"] for column, kind in features.items() if isinstance(kind, dict) and "_type" in kind}
    encoded = [field.name for field in schema if holds_bytes(field.type)]  # whatever the features say: not numbers
    image = first(column for column in encoded if kinds.get(column) == "Image") or first(encoded)
    if image is None:
        raise UserError(
            f"'{name}' has no column of images (bytes), only {', '.join(schema.names)}", code="no-image-column"
        )
    label = first(column for column in schema.names if kinds.get(column) == "ClassLabel")
    label = label or first(field.name for field in schema if field.name in LABELS and is_label(field.type))
    names = features[label].get("names") if label and kinds.get(label) == "ClassLabel" else None
    return Columns(image, label, [str(label_name) for label_name in names] if isinstance(names, list) else [])


def column_features(schema: Any, name: str) -> dict[str, Any]:
    """Return the features that Hugging Face's `datasets` stored in the metadata; empty where there are none."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return dict(features)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"'{name}' has broken metadata of Hugging Face datasets: write the file again", code="bad-metadata"
        ) from error


def holds_bytes(kind: Any) -> bool:
    """Return whether a column can hold encoded images: bytes, or the {bytes, path} of Hugging Face."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def is_label(kind: Any) -> bool:
    """Return whether a column can hold labels: integers or strings."""
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def cell_path(cell: Any) -> str | None:
    """Return the file name that a cell holds, if any."""
    return cell.get("path") if isinstance(cell, dict) else None


def cell_content(cell: Any, roots: Sequence[Path]) -> Content:
    """Return the encoded image of a cell, or the file below one of the folders `roots` that it names instead."""
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if data is not None:
        return bytes(data)
    if not path:
        return UndecodableError("the row holds no image")
    named = [Path(os.path.realpath(root / path)) for root in roots]
    inside = (file for file, root in zip(named, roots, strict=True) if file.is_relative_to(os.path.realpath(root)))
    return next(inside, None) or UndecodableError(f"'{path}' is outside the folder of the data")


def first(names: Iterable[str]) -> str | None:
    """Return the first of some names, None when there is none."""
    return next(iter(names), None)


SOURCE = SourceType(description=".parquet files", suffixes=(".parquet",), open_files=open_parquet)
