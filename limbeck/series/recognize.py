"""Tell sources of series from those of images, by their names and what they begin with, without numpy."""

import csv
import zipfile
from contextlib import suppress
from itertools import islice
from pathlib import Path

from limbeck.core.text import csv_delimiter

ARRAY = "series"
"""Name of the array of values in a .npz file, and of their column in a .parquet file."""
FIRST = 20  # entries of a folder that are read


def is_series(source: object) -> bool:
    """Return whether a source is of series: .ts, .tsv, .npz or .parquet with `series`, CSV of numbers, `SeriesData`."""
    if source is None:
        return False
    if not isinstance(source, str | Path):
        from limbeck.series.data import SeriesData

        return isinstance(source, SeriesData)
    path = Path(source).expanduser()
    suffix = path.suffix.lower()
    if suffix in (".ts", ".tsv"):
        return True
    with suppress(OSError, zipfile.BadZipFile):
        if suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return f"{ARRAY}.npy" in archive.namelist()
        if suffix == ".parquet":
            return path.is_file() and _has_column(path)
        if suffix == ".csv" and not path.is_dir():
            return not path.exists() or _holds_numbers(path)
        return path.is_dir() and _holds_csv(path)
    return False


def _has_column(file: Path) -> bool:
    """Return whether a parquet file has a column of series."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with suppress(OSError, ValueError, pa.ArrowException):
        return ARRAY in pq.read_schema(file).names
    return False


def _holds_csv(folder: Path) -> bool:
    """Return whether the first files of a folder, or else of a sub-folder, are CSV files."""
    entries = _visible(folder)
    inner = next((entry for entry in entries if entry.is_dir()), None)
    files = [entry for entry in entries if entry.is_file()] or ([] if inner is None else _visible(inner))
    return bool(files) and all(map(is_csv, files))


def _holds_numbers(file: Path) -> bool:
    """Return whether the first rows of a CSV file, but perhaps a header, are numbers and empty cells."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as content, suppress(ValueError, csv.Error):
        head = content.readline()
        rows = islice(csv.reader(content, delimiter=csv_delimiter(head)), FIRST - 1)
        cells = [cell for row in rows for cell in row if cell.strip()]
        return bool([float(cell) for cell in cells])
    return False


def is_csv(file: Path) -> bool:
    """Return whether a file is one of comma-separated values, by its name."""
    return file.suffix.lower() == ".csv"


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in islice(folder.iterdir(), FIRST) if not entry.name.startswith(".")]
