"""Sources of series: .ts files (UCR, UEA), .tsv, .npz and .parquet with `series`, CSV files or folders of them."""

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UserError, one_line
from limbeck.core.text import csv_delimiter
from limbeck.data.sources.labels import class_name
from limbeck.series.data import SeriesData
from limbeck.series.recognize import ARRAY, is_csv

LABELS = "labels"
"""Name of the array of labels in a .npz file."""
MISSING = {"", "?", "nan"}
"""Cells without a value, in lower case."""
Row = list[list[float]]
"""The values of a series by channel: channels that may differ in length."""


def open_series(source: Any) -> SeriesData:
    """Return the series of a source.

    * `NAME.ts`: UCR and UEA's format; `?` is missing, the part after the last colon is the label
    * `NAME.tsv`: a series per line, its label first
    * `NAME.npz`: `series` [N T C] or [N T], NaN where values are missing, and perhaps `labels` [N]
    * `NAME.parquet`: a column `series` of lists of numbers, or of lists of such lists (steps of channels), and perhaps
      columns `label` and `path`; rows that are no series are left out, and named as the files of a folder are
    * `NAME.csv`: one series, a row per step, a column per channel
    * a folder of `.csv` files, a series each: a row per step, a column per channel; sub-folders are classes; files that
      are no series are left out, and named in `SeriesData.remarks`
    * `SeriesData`

    Raises:
        UserError: the source is missing, unreadable or empty; channels differ between series; labels are no classes; or
            as `SeriesData`.
    """
    if isinstance(source, SeriesData):
        return source
    if not isinstance(source, str | PathLike):
        raise UserError(f"series are read from {OPTIONS}, not from {source!r:.80}", code="unknown-source")
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(f"'{source}' does not exist: give {OPTIONS}", code="source-missing")
    if path.is_dir():
        return _read_folder(path)
    if path.suffix.lower() not in READERS:
        raise UserError(f"'{source}' is not a source of series: give {OPTIONS}", code="unknown-source")
    return READERS[path.suffix.lower()](path)


def _read_ts(path: Path) -> SeriesData:
    header, rows, labels = dict[str, str](), list[Row](), list[str]()
    for number, line in _lines(path):
        if line.startswith("@"):
            key, _, value = line[1:].partition(" ")
            header[key.lower()] = value.strip().lower()
            continue
        if header.get("timestamps") == "true":
            raise UserError(f"'{path}' has time stamps: write its values at equal intervals", code="bad-series-file")
        if header.get("targetlabel", "false") != "false":
            raise _no_classes(path, line.rpartition(":")[2])
        channels = line.split(":")
        if header.get("classlabel", "false").startswith("true"):
            labels.append(channels.pop().strip())
        rows.append([_numbers(channel.split(","), path, number) for channel in channels])
    return _assemble(rows, labels or None, path, ())


def _read_tsv(path: Path) -> SeriesData:
    rows, labels = list[Row](), list[str]()
    for number, line in _lines(path):
        label, *values = line.split("\t")
        rows.append([_numbers(values, path, number)])
        labels.append(label.strip())
    return _assemble(rows, labels, path, ())


def _read_npz(path: Path) -> SeriesData:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if ARRAY not in arrays.files:
                raise ValueError(f"its arrays are {', '.join(arrays.files) or 'none'}")
            values, labels = arrays[ARRAY], arrays[LABELS] if LABELS in arrays.files else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"'{path}' cannot be read as series ({one_line(error)}): save an array '{ARRAY}' [N T C] of numbers",
            code="bad-series-file",
        ) from error
    if labels is None:
        return SeriesData(values, path=path)
    if labels.ndim != 1 or labels.dtype.kind not in "iufbUS":
        raise _no_classes(path, f"an array {labels.dtype} of shape {labels.shape}")
    return SeriesData(values, *_classes([str(label) for label in labels.tolist()], path), path)


def _read_parquet(path: Path) -> SeriesData:
    from limbeck.series.parquet import read_table

    table = read_table(path)
    return _assemble(table.rows, table.labels, path, table.names, table.left_out)


def _read_folder(folder: Path) -> SeriesData:
    """Read a folder of CSV files; those in sub-folders have their names as labels. Leave out unusable ones."""
    files = sorted(path for path in folder.rglob("*") if is_csv(path) and not path.name.startswith("."))
    read, reasons = dict[Path, Row](), list[str]()
    for file in files:
        try:
            read[file.relative_to(folder)] = _read_csv(file)
        except (UserError, OSError, csv.Error) as error:
            reasons.append(one_line(error))
    if reasons and not read:
        raise UserError(f"no file in '{folder}' is a series: {reasons[0]}", code="bad-series-file")
    labels = [name.parent.as_posix() for name in read]
    names = [name.as_posix() for name in read]
    return _assemble([*read.values()], None if "." in labels else labels, folder, names, reasons)


def _read_csv(file: Path) -> Row:
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=csv_delimiter(text))
    lines = [(number, cells) for number, cells in enumerate(reader, 1) if cells]
    if lines and not all(map(_is_number, lines[0][1])):
        lines = lines[1:]  # a header
    if not lines:
        raise UserError(f"'{file}' holds no values", code="bad-series-file")
    found = [_numbers(cells, file, number) for number, cells in lines]
    if odd := next((number for (number, _), cells in zip(lines, found, strict=True) if len(cells) != len(found[0])), 0):
        raise UserError(
            f"line {odd} of '{file}' has another number of columns than the first ({len(found[0])}): every step has a "
            "value, or an empty cell, for each channel",
            code="bad-series-file",
        )
    if np.isinf(found).any():
        raise UserError(f"'{file}' has infinite values", code="bad-series-file")
    if np.isnan(found).any(axis=1).all():
        raise UserError(f"'{file}' has no step with all of its values", code="bad-series-file")
    return [list(channel) for channel in zip(*found, strict=True)]


def _read_recording(path: Path) -> SeriesData:
    return _assemble([_read_csv(path)], None, path, [path.name])


READERS = {
    ".ts": _read_ts, ".tsv": _read_tsv, ".npz": _read_npz, ".parquet": _read_parquet, ".csv": _read_recording,
}  # fmt: skip
OPTIONS = "a .ts, .tsv, .npz, .parquet or .csv file with series, or a folder of .csv files"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, without comments and empty ones."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if (text := line.strip()) and not text.startswith("#"):
                yield number, text


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        float(cell)
        return True
    return cell.strip().lower() in MISSING


def _numbers(cells: Sequence[str], path: Path, line: int) -> list[float]:
    try:
        return [np.nan if cell.strip().lower() in MISSING else float(cell) for cell in cells]
    except ValueError as error:
        bad = next(cell for cell in cells if not _is_number(cell))
        raise UserError(
            f"line {line} of '{path}' has '{bad[:40]}' where a number should be: correct it, leave it empty, or "
            "leave out the column if it is none of numbers, such as times",
            code="bad-series-file",
        ) from error


def _assemble(
    rows: Sequence[Row], labels: list[str] | None, path: Path, names: Sequence[str], left_out: Sequence[str] = ()
) -> SeriesData:
    """Return series of any lengths as an array that ends in NaN."""
    if not rows:
        raise UserError(f"'{path}' holds no series: give {OPTIONS}", code="no-series")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            where = names[number] if names else number
            raise UserError(
                f"series {where} of '{path}' has {len(row)} channels and the first one {len(rows[0])}: all series need "
                "the same channels",
                code="channels-differ",
            )
    values = np.full((len(rows), max(len(c) for row in rows for c in row), len(rows[0])), np.nan, np.float32)
    for number, row in enumerate(rows):
        for channel, cells in enumerate(row):
            values[number, : len(cells), channel] = cells
    numbers, classes = (None, []) if labels is None else _classes(labels, path)
    return SeriesData(values, numbers, classes, path, names, left_out)


def _classes(labels: Sequence[str], path: Path) -> tuple[NDArray[np.int64], list[str]]:
    """Return labels as numbers, and their names in the order of numbers or letters; UserError for measurements."""
    numeric = all(map(_is_number, labels)) and not any(label.strip().lower() in MISSING for label in labels)
    if numeric and (fraction := next((x for x in labels if not float(x).is_integer()), None)):
        raise _no_classes(path, fraction)
    texts = [str(int(float(x))) if numeric else class_name(x) for x in labels]
    names = sorted(set(texts), key=float if numeric else str)
    position = {name: number for number, name in enumerate(names)}
    return np.array([position[text] for text in texts], np.int64), names


def _no_classes(path: Path, label: str) -> UserError:
    return UserError(
        f"the labels of '{path}' are no classes (such as {label}): give names or whole numbers, or leave them out",
        code="labels-not-classes",
    )
