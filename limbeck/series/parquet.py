"""Series in a column of lists of a parquet file."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.core.errors import UserError
from limbeck.data.sources.parquet import arrow_errors
from limbeck.series.recognize import ARRAY

LABEL, PATH = "label", "path"
"""Columns of a class and of a name, if there are any."""


class Table(NamedTuple):
    """The rows of a file: values by channel, labels and names."""

    rows: list[list[list[float]]]
    labels: list[str] | None
    names: list[str]


def read_table(path: Path) -> Table:
    """Read series from a column of lists of numbers, or of lists of such lists: steps of channels.

    Raises:
        UserError: the file cannot be read, has no such column, or a series or a label is missing or malformed.
    """
    with arrow_errors(str(path)):
        schema = pq.read_schema(path)
        columns = [name for name in (ARRAY, LABEL, PATH) if name in schema.names]
        table = pq.read_table(path, columns=columns)
    if ARRAY not in columns or not _is_series(schema.field(ARRAY).type):
        raise _bad(path, f"no column '{ARRAY}' of lists of numbers")
    rows = [_channels(value, path, row) for row, value in enumerate(table[ARRAY].to_pylist())]
    labels, names = (table[name].to_pylist() if name in columns else [] for name in (LABEL, PATH))
    if None in labels:
        raise _bad(path, f"no {LABEL} in row {labels.index(None)}")
    return Table(rows, [str(label) for label in labels] or None, [str(name) for name in names])


def _is_series(kind: Any) -> bool:
    """Return whether a type is of lists of numbers, or of lists of such lists."""
    for _ in range(2):
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            kind = kind.value_type
            if pa.types.is_integer(kind) or pa.types.is_floating(kind):
                return True
    return False


def _channels(value: list[Any] | None, path: Path, row: int) -> list[list[float]]:
    """Return the values of a series by channel, NaN where they are missing."""
    if not value:
        raise _bad(path, f"no values in row {row}")
    steps = [step if isinstance(step, list) else [step] for step in value]
    width = max(map(len, steps))
    steps = [[None] * width if step == [None] else step for step in steps]
    if odd := next((step for step in steps if len(step) != width), None):
        raise _bad(path, f"steps of {width} and of {len(odd)} channels in row {row}")
    return np.array(steps, np.float64).T.tolist()


def _bad(path: Path, what: str) -> UserError:
    return UserError(
        f"'{path}' has {what}: write a column '{ARRAY}' of lists of numbers (of several channels, a list of their "
        f"values for each step) and, if there are classes, a column '{LABEL}'",
        code="bad-series-file",
    )
