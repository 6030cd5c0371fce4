"""A result as a table for people."""

from collections.abc import Callable
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from limbeck.evaluate.result import Result, Row


class _Column(NamedTuple):
    head: str
    value: Callable[[Row], float | None]
    show: Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


_COST = (
    _Column("layer", lambda row: row.tap, str),
    _Column("params\nM", lambda row: row.parameters / 1e6, "{:.2f}".format),
    _Column("GFLOPs", lambda row: row.gflops, "{:.3f}".format),
    _Column("latency\nms", lambda row: row.latency_ms, "{:.2f}".format),
)
_ACCURACY = (
    _Column("k-NN\n%", lambda row: row.knn, _percent),
    _Column("random\n%", lambda row: row.random_knn, _percent),
    _Column("5-nn\n%", lambda row: row.five_nn, _percent),
    _Column("linear\n%", lambda row: row.linear, _percent),
    _Column("random\n%", lambda row: row.random_linear, _percent),
)
_SPREAD = (
    _Column("positive", lambda row: row.positive, "{:.3f}".format),
    _Column("negative", lambda row: row.negative, "{:.3f}".format),
    _Column("uniformity", lambda row: row.uniformity, "{:.2f}".format),
)
_SUMMARY = (
    _Column("ratio", lambda row: row.ratio, "{:.2f}".format),
    _Column("rank", lambda row: row.effective_rank, "{:.1f}".format),
)


def table(result: Result) -> Table:
    """A line per layer, 80 characters wide: cost, accuracy (or geometry, without labels), ratio and effective rank.

    Columns that nothing was measured for are left out; "-" stands for a single missing number.
    """
    found = Table(title=_title(result), box=SIMPLE_HEAD, padding=0)
    chosen = _COST + (_ACCURACY if result.classes else _SPREAD) + _SUMMARY
    columns = [column for column in chosen if any(column.value(row) is not None for row in result.rows)]
    for column in columns:
        found.add_column(column.head, justify="right", no_wrap=True)
    for row in result.rows:
        values = [(column, column.value(row)) for column in columns]
        found.add_row(*("-" if value is None else column.show(value) for column, value in values))
    return found


def _title(result: Result) -> str:
    if not result.classes:
        return f"{result.test.images} images without labels"
    probe = f", linear by {result.probe}" if result.probe else ""
    return f"{result.train.images} + {result.test.images} images, {len(result.classes)} classes{probe}"
