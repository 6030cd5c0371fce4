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
    """The usable rows of a file: values by channel, labels and names; and a sentence for every other row."""

    rows: list[list[list[float]]]
    labels: list[str] | None
    names: list[str]
    left_out: list[str]


def read_table(path: Path) -> Table:
    """Read series from a column of lists of numbers, or of lists of such lists: steps of channels.

    Raises:
        UserError: the file cannot be read, has no such column, no row is a series, or one that is has no label.
    """
    with arrow_errors(str(path)):
        schema = pq.read_schema(path)
        columns = [name for name in (ARRAY, LABEL, PATH) if name in schema.names]
        table = pq.read_table(path, columns=columns)
    if ARRAY not in columns or not _is_series(schema.field(ARRAY).type):
        raise _bad(path, f"no column '{ARRAY}' of lists of numbers")
    rows, left_out = dict[int, list[list[float]]](), list[str]()
    for row, value in enumerate(table[ARRAY].to_pylist()):
        try:
            rows[row] = _channels(value)
        except ValueError as error:
            left_out.append(f"row {row} has {error}")
    if left_out and not rows:
        raise _bad(path, f"no row that is a series ({left_out[0]})")
    labels, names = (table[name].to_pylist() if name in columns else None for name in (LABEL, PATH))
    if labels and (bare := next((row for row in rows if labels[row] is None), None)) is not None:
        raise _bad(path, f"no {LABEL} in row {bare}")
    return Table(
        [*rows.values()],
        [str(labels[row]) for row in rows] if labels else None,
        [str(names[row] if names else row) for row in rows],
        left_out,
    )


def _is_series(kind: Any) -> bool:
    """Return whether a type is of lists of numbers, or of lists of such lists."""
    for _ in range(2):
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            kind = kind.value_type
            if pa.types.is_integer(kind) or pa.types.is_floating(kind):
                return True
    return False


def _channels(value: list[Any] | None) -> list[list[float]]:
    """Return the values of a series by channel, NaN where they are missing; ValueError with what is wrong with it."""
    if not value:
        raise ValueError("no values")
    steps = [step if isinstance(step, list) else [step] for step in value]
    width = max(map(len, steps))
    steps = [[None] * width if step == [None] else step for step in steps]
    if odd := next((step for step in steps if len(step) != width), None):
        raise ValueError(f"steps of {width} and of {len(odd)} channels")
    found = np.array(steps, np.float64)
    if np.isinf(found).any():
        raise ValueError("infinite values")
    if not found.size or np.isnan(found).any(axis=1).all():
        raise ValueError("no step with all of its values")
    return found.T.tolist()


def _bad(path: Path, what: str) -> UserError:
    return UserError(
        f"'{path}' has {what}: write a column '{ARRAY}' of lists of numbers (of several channels, a list of their "
        f"values for each step) and, if there are classes, a column '{LABEL}'",
        code="bad-series-file",
    )
