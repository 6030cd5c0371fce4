"""Images in columns: parquet files, and data sets of the Hugging Face hub."""

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
from limbeck.data.fingerprint import file_state, fingerprint, state_fingerprint
from limbeck.data.sources.base import Item, Rows

LABELS = ("label", "labels", "class", "cls")
BATCH = 64  # rows read at a time: encoded images may have megabytes each

Batches = Callable[[Sequence[str]], Iterator[tuple[str, Any]]]  # columns -> (where, record batch or table)


class Columns(NamedTuple):
    """Which column holds the images, which the labels, and the names that the schema gives to labels."""

    image: str
    label: str | None
    label_names: list[str]


def parquet_rows(files: Sequence[Path], name: str) -> Rows:
    """Rows of parquet files, in the order given. Raises UserError where a file or its columns cannot be read."""
    with readable(name):
        tables = [pq.ParquetFile(file) for file in files]

    def batches(columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
        for file, table in zip(files, tables, strict=True):
            with readable(str(file)):
                for batch in table.iter_batches(batch_size=BATCH, columns=list(columns)):
                    yield file.name, batch

    roots = list(dict.fromkeys(file.parent for file in files))
    count = sum(table.metadata.num_rows for table in tables)
    states = [file_state(file) for file in files]
    rows = table_rows(name, tables[0].schema_arrow, batches, count, roots)
    return replace(rows, fingerprint=state_fingerprint(states), files=lambda: iter(states))


@contextmanager
def readable(name: str) -> Iterator[None]:
    """What pyarrow raises on a broken file, as one sentence."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: text that is no UTF-8
        raise UserError(f"'{name}' cannot be read as parquet: {one_line(error)}") from error


def hub_rows(name: str) -> Rows:
    """A data set of the hub, 'owner/name' or 'owner/name:split' (default: train), kept in the cache of `datasets`."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    repository, _, split = name.partition(":")
    try:
        table = datasets.load_dataset(repository, split=split or "train")
    except Exception as error:  # not found, offline, gated, unknown split, a script: `datasets` raises many kinds
        raise UserError(f"'{name}' is no path, and the Hugging Face hub did not give it: {one_line(error)}") from error

    def batches(columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
        chosen = table.select_columns(list(columns)).with_format("arrow")
        return ((name, batch) for batch in chosen.iter(batch_size=BATCH))

    roots = [Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]
    rows = table_rows(name, table.features.arrow_schema, batches, len(table), roots)
    return replace(rows, fingerprint=fingerprint([name]))


def table_rows(name: str, schema: Any, batches: Batches, count: int, roots: Sequence[Path]) -> Rows:
    """Rows of a table with an image column and, if there is one, a label column of integers or strings.

    A cell may name a file in place of bytes, which is read if it lies in one of the folders `roots`.
    """
    columns = find_columns(schema, name)
    wanted = [columns.image] if columns.label is None else [columns.image, columns.label]
    names = columns.label_names
    by_name: dict[str, int] = {}
    if columns.label is not None and not pa.types.is_integer(schema.field(columns.label).type):
        found = {value for _, batch in batches([columns.label]) for value in batch[columns.label].to_pylist()}
        names = sorted(found - {None})
        by_name = {value: label for label, value in enumerate(names)}

    def items() -> Iterator[Item]:
        row = 0
        for where, batch in batches(wanted):
            labels = [None] * len(batch) if columns.label is None else batch[columns.label].to_pylist()
            for cell, label in zip(batch[columns.image].to_pylist(), labels, strict=True):
                number = by_name.get(label, -1) if by_name else label
                yield Item(
                    cell_path(cell) or f"{where}#{row}", cell_content(cell, roots), -1 if number is None else number
                )
                row += 1

    return Rows(name=name, items=items, count=count, label_names=names)


def find_columns(schema: Any, name: str) -> Columns:
    """The columns by their Hugging Face features, else by type and name; UserError when none holds images."""
    features = column_features(schema, name)
    kinds = {column: kind["_type"] for column, kind in features.items() if isinstance(kind, dict) and "_type" in kind}
    encoded = [field.name for field in schema if holds_bytes(field.type)]  # whatever the features say: not numbers
    image = first(column for column in encoded if kinds.get(column) == "Image") or first(encoded)
    if image is None:
        raise UserError(f"'{name}' has no column of images, only {', '.join(schema.names)}")
    label = first(column for column in schema.names if kinds.get(column) == "ClassLabel")
    label = label or first(field.name for field in schema if field.name in LABELS and is_label(field.type))
    names = features[label].get("names") if label and kinds.get(label) == "ClassLabel" else None
    return Columns(image, label, [str(word) for word in names] if isinstance(names, list) else [])


def column_features(schema: Any, name: str) -> dict[str, Any]:
    """What Hugging Face's `datasets` wrote of the columns beside the schema; empty where it wrote nothing."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return dict(features)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"'{name}' has broken metadata of Hugging Face datasets: write the file again") from error


def holds_bytes(kind: Any) -> bool:
    """Encoded images: a column of bytes, or the {bytes, path} of Hugging Face."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def is_label(kind: Any) -> bool:
    """Integers or strings, one per row."""
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def cell_path(cell: Any) -> str | None:
    """The file name that came with an image, if one did."""
    return cell.get("path") if isinstance(cell, dict) else None


def cell_content(cell: Any, roots: Sequence[Path]) -> Content:
    """The encoded image of a cell, or the file below one of the folders `roots` that it names instead."""
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if data is not None:
        return bytes(data)
    if not path:
        return UndecodableError("the row holds no image")
    named = [Path(os.path.realpath(root / path)) for root in roots]
    inside = (file for file, root in zip(named, roots, strict=True) if file.is_relative_to(os.path.realpath(root)))
    return next(inside, None) or UndecodableError(f"'{path}' lies outside the folder of the data")


def first(names: Iterable[str]) -> str | None:
    """The first of some names, None when there is none."""
    return next(iter(names), None)
