"""Rows of one or several Arrow tables, wherever they are, as samples."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.core.errors import UserError
from limbeck.core.text import first_names, plural
from limbeck.data.decode import Content, UndecodableError, image_format
from limbeck.data.sources.base import ImageSource, Sample
from limbeck.data.sources.labels import Classes, classify
from limbeck.data.sources.names import has_image_suffix, why_hidden
from limbeck.data.sources.table_columns import Columns, find_columns, label_kind

logger = logging.getLogger(__name__)
BATCH = 64  # rows read at a time: encoded images may have megabytes each


class TablePart(NamedTuple):
    """A file or another part of a table."""

    name: str
    short_name: str  # at the start of the paths of rows without a path
    schema: Any
    rows: int
    batches: Callable[[Sequence[str]], Iterator[Any]]
    """From the names of columns to record batches; raises UserError where the part is damaged."""


def table_source(name: str, parts: Sequence[TablePart], roots: Sequence[Path]) -> ImageSource:
    """Return the rows of tables with a column of images and, if there is one, a column of labels.

    A cell may name a file instead of holding bytes; it is read if it is below one of the folders `roots`.

    Raises:
        UserError: a part has no images, or labels of another kind than the others.
    """
    columns = [find_columns(part.schema, part.name) for part in parts]
    _check_kinds(parts, columns)
    classes = _find_labels(parts, columns)
    _report_other_images(name, columns)

    def samples() -> Iterator[Sample]:
        cells = chain.from_iterable(part_cells(part, found) for part, found in zip(parts, columns, strict=True))
        for (place, cell), label in zip(cells, classes.numbers, strict=True):
            yield Sample(cell_path(cell) or place, cell_content(cell, roots), int(label))

    return ImageSource(
        name=name,
        samples=samples,
        count=sum(part.rows for part in parts),
        label_names=classes.names,
        label_origin=_origin(columns),
        label_problems=classes.problems,
    )


def part_cells(part: TablePart, columns: Columns) -> Iterator[tuple[str, Any]]:
    """Yield a name and the cell of the images of a part; rows behind a damage become errors."""
    for row, cell in enumerate(_values(part, columns.image)):
        yield f"{part.short_name}#{row}", cell


def _values(part: TablePart, column: str) -> Iterator[Any]:
    """Yield exactly the values of a column; those behind a damage are errors."""
    error = UndecodableError("the rest of the file has fewer rows than it says")
    try:
        done = 0
        for batch in part.batches([column]):
            for value in batch[column].to_pylist():
                yield value
                done += 1
    except UserError as damage:
        error = UndecodableError(str(damage))
    yield from repeat(error, part.rows - done)


def _find_labels(parts: Sequence[TablePart], columns: Sequence[Columns]) -> Classes:
    """Read the labels of all rows; numbers with names become names, so that parts may list them in different orders."""
    names = list(dict.fromkeys(name for found in columns for name in found.label_names))
    values = (_part_labels(part, found) for part, found in zip(parts, columns, strict=True))
    classes = classify(chain.from_iterable(values), names)
    total = sum(part.rows for part in parts)
    if not any(found.label for found in columns):
        others = [column for column in parts[0].schema.names if column != columns[0].image]
        reason = f"no column is called label, class or the like, only {first_names(others)}" if others else "no column"
        classes.problems[reason] = total
    elif missing := [part for part, found in zip(parts, columns, strict=True) if found.label is None]:
        reason = f"no such column in {first_names([part.name for part in missing])}"
        classes.problems[reason] = sum(part.rows for part in missing)
    return classes


def _part_labels(part: TablePart, columns: Columns) -> Iterator[Any]:
    if columns.label is None:
        return repeat(None, part.rows)
    values = (None if isinstance(value, UndecodableError) else value for value in _values(part, columns.label))
    return (_named(value, columns, part) for value in values) if columns.label_names else values


def _named(value: Any, columns: Columns, part: TablePart) -> Any:
    """Return the name of a number where the schema has names; other values as they are."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None if isinstance(value, int) else value
    if value >= len(columns.label_names):
        raise UserError(
            f"label {value} in '{part.name}' has no name, with {plural(len(columns.label_names), 'name')} in all: "
            "name every label from 0 on",
            code="label-without-name",
        )
    return columns.label_names[value]


def _check_kinds(parts: Sequence[TablePart], columns: Sequence[Columns]) -> None:
    """Raise UserError where words of one part would be joined with numbers of another."""
    first: dict[str, TablePart] = {}
    for part, found in zip(parts, columns, strict=True):
        first.setdefault(label_kind(part.schema, found), part)
    if "words" in first and "numbers" in first:
        raise UserError(
            f"the labels of '{first['words'].name}' are words and those of '{first['numbers'].name}' are numbers: "
            "write them in one way, or give the files one by one",
            code="labels-differ",
        )


def _origin(columns: Sequence[Columns]) -> str:
    names = list(dict.fromkeys(f"'{found.label}'" for found in columns if found.label))
    return f"the column {' or '.join(names)}"


def _report_other_images(name: str, columns: Sequence[Columns]) -> None:
    others = list(dict.fromkeys(column for found in columns for column in found.other_images))
    if others:
        logger.info("'%s': images are read from '%s', not from %s", name, columns[0].image, first_names(others))


def cell_path(cell: Any) -> str | None:
    """Return the file name that a cell holds, if any."""
    return cell.get("path") if isinstance(cell, dict) else None


def cell_content(cell: Any, roots: Sequence[Path]) -> Content:
    """Return the encoded image of a cell, or the file below one of the folders `roots` that it names instead."""
    if isinstance(cell, UndecodableError):
        return cell
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if path and (reason := _why_ignored(path, data)):
        return UndecodableError(reason, "not_an_image")
    if data is not None:
        return bytes(data)
    return _file_below(path, roots) if path else UndecodableError("the row holds no image")


def _why_ignored(path: str, data: bytes | None) -> str:
    """Return why a cell is not taken for an image, by the rule for files; "" where it is.

    Paths may be absolute and lead through hidden folders, and need no extension where the content is an image.
    """
    name = os.path.basename(path)
    if reason := why_hidden("__MACOSX/x" if "__MACOSX" in path.split("/") else name):
        return reason
    is_other = bool(os.path.splitext(name)[1]) and not has_image_suffix(name)
    return "no image's extension" if is_other and not (data and image_format(data)) else ""


def _file_below(path: str, roots: Sequence[Path]) -> Content:
    try:
        named = [Path(os.path.realpath(root / path)) for root in roots]
        inside = (file for file, root in zip(named, roots, strict=True) if file.is_relative_to(os.path.realpath(root)))
        return next(inside, None) or UndecodableError("the file that the row names is outside the folder of the data")
    except (OSError, ValueError) as error:  # a zero byte, links without end
        return UndecodableError(f"the row names no file ({error})")
