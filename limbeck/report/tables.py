"""The layers of a run as an HTML table."""

from collections.abc import Callable
from html import escape
from typing import NamedTuple

from limbeck.evaluate.result import Row
from limbeck.report.runs import Run, cheapest_cut


class _Column(NamedTuple):
    head: str
    value: Callable[[Row], float | None]
    show: Callable[[float], str]
    quiet: bool = False


def percent(share: float) -> str:
    """0.9634 -> 96.3"""
    return f"{100 * share:.1f}"


COLUMNS = (
    _Column("layer", lambda row: row.tap, str),
    _Column("parameters", lambda row: row.parameters, "{:,}".format),
    _Column("GFLOPs", lambda row: row.gflops, "{:.3g}".format),
    _Column("latency, ms", lambda row: row.latency_ms, "{:.2f}".format),
    _Column("k-NN", lambda row: row.knn, percent),
    _Column("untrained", lambda row: row.random_knn, percent, quiet=True),
    _Column("linear", lambda row: row.linear, percent),
    _Column("untrained", lambda row: row.random_linear, percent, quiet=True),
    _Column("alignment", lambda row: row.ratio, "{:.2f}".format),
    _Column("effective rank", lambda row: row.effective_rank, "{:.1f}".format),
)


def layer_table(run: Run) -> str:
    """A line per layer; the lowest layer within a point of the best is marked."""
    assert run.result
    rows, chosen = run.result.rows, cheapest_cut(run.result)
    columns = [column for column in COLUMNS if any(column.value(row) is not None for row in rows)]
    head = "".join(f'<th scope="col">{column.head}</th>' for column in columns)
    body = "".join(_line(row, columns, row is chosen) for row in rows)
    return (
        f'<div class="table"><table><caption>{escape(run.name)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _line(row: Row, columns: list[_Column], chosen: bool) -> str:
    cells = "".join(_cell(column, column.value(row)) for column in columns)
    return f"<tr{' class=cut' if chosen else ''}>{cells}</tr>"


def _cell(column: _Column, value: float | None) -> str:
    return f"<td{' class=random' if column.quiet else ''}>{'-' if value is None else column.show(value)}</td>"
