"""A result and a comparison as tables for people."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from rich.box import SIMPLE_HEAD
from rich.table import Table

from limbeck.evaluate.results import Comparison, ModelScores, Result, Row, percent

T = TypeVar("T")


class _Column(NamedTuple, Generic[T]):
    head: str
    value: Callable[[T], float | None]
    show: Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


_COST: tuple[_Column[Row], ...] = (
    _Column("layer", lambda row: row.tap, str),
    _Column("params\nM", lambda row: row.parameters / 1e6, "{:.2f}".format),
    _Column("GFLOPs", lambda row: row.gflops, "{:.3f}".format),
    _Column("latency\nms", lambda row: row.latency_ms, "{:.2f}".format),
)
_ACCURACY: tuple[_Column[Row], ...] = (
    _Column("k-NN\n%", lambda row: row.knn, _percent),
    _Column("random\n%", lambda row: row.random_knn, _percent),
    _Column("5-nn\n%", lambda row: row.five_nn, _percent),
    _Column("linear\n%", lambda row: row.linear, _percent),
    _Column("random\n%", lambda row: row.random_linear, _percent),
)
_SPREAD: tuple[_Column[Row], ...] = (
    _Column("positive", lambda row: row.positive, "{:.3f}".format),
    _Column("negative", lambda row: row.negative, "{:.3f}".format),
    _Column("uniformity", lambda row: row.uniformity, "{:.2f}".format),
)
_SUMMARY: tuple[_Column[Row], ...] = (
    _Column("ratio", lambda row: row.ratio, "{:.2f}".format),
    _Column("rank", lambda row: row.effective_rank, "{:.1f}".format),
)
_ENTRANT: tuple[_Column[ModelScores], ...] = (
    _Column("params\nM", lambda entrant: entrant.parameters / 1e6, "{:.2f}".format),
    _Column("GFLOPs", lambda entrant: entrant.gflops, "{:.3f}".format),
    _Column("latency\nms", lambda entrant: entrant.latency_ms, "{:.2f}".format),
    _Column("k-NN\n%", lambda entrant: entrant.knn, _percent),
    _Column("linear\n%", lambda entrant: entrant.linear, _percent),
    _Column("neighbours\nkept %", lambda entrant: entrant.agreement, _percent),
    _Column("CKA", lambda entrant: entrant.cka, "{:.2f}".format),
    _Column("by\nchance", lambda entrant: entrant.cka_chance, "{:.2f}".format),
    _Column("rank", lambda entrant: entrant.effective_rank, "{:.1f}".format),
)


def table(result: Result) -> Table:
    """A line per layer, 80 characters wide: cost, accuracy (or geometry, without labels), ratio and effective rank.

    Columns that nothing was measured for are left out; "-" stands for a single missing number.
    """
    return _table(_title(result), _COST + (_ACCURACY if result.classes else _SPREAD) + _SUMMARY, result.rows)


def comparison_table(found: Comparison) -> Table:
    """A line per network, 80 characters wide: cost, accuracy, and what it keeps of the teacher's space."""
    title = f"{found.neighbours} neighbours among {found.images} images: {percent(found.chance)} by chance"
    return _table(title, _ENTRANT, found.entrants, [entrant.name for entrant in found.entrants])


def _table(title: str, chosen: Sequence[_Column[T]], rows: Sequence[T], names: Sequence[str] = ()) -> Table:
    found = Table(title=title, box=SIMPLE_HEAD, padding=0)
    if names:
        found.add_column("network", no_wrap=True)
    columns = [column for column in chosen if any(column.value(row) is not None for row in rows)]
    for column in columns:
        found.add_column(column.head, justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        values = [(column, column.value(row)) for column in columns]
        cells = ("-" if value is None else column.show(value) for column, value in values)
        found.add_row(*names[index : index + 1], *cells)
    return found


def _title(result: Result) -> str:
    if not result.classes:
        return f"{result.test.images} images without labels"
    probe = f", linear by {result.probe}" if result.probe else ""
    return f"{result.train.images} + {result.test.images} images, {len(result.classes)} classes{probe}"
