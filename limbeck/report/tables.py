"""The layers of a run, and a student beside its teacher, as HTML tables."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Generic, NamedTuple, TypeVar

from limbeck.evaluate.results import Comparison, ModelScores, Row
from limbeck.report.runs import Run, cheapest_cut

T = TypeVar("T")


class _Column(NamedTuple, Generic[T]):
    head: str
    value: Callable[[T], float | None]
    show: Callable[[float], str]
    quiet: bool = False


def percent(share: float) -> str:
    """0.9634 -> 96.3"""
    return f"{100 * share:.1f}"


LAYER: tuple[_Column[Row], ...] = (
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

ENTRANT: tuple[_Column[ModelScores], ...] = (
    _Column("parameters", lambda entrant: entrant.parameters, "{:,}".format),
    _Column("GFLOPs", lambda entrant: entrant.gflops, "{:.3g}".format),
    _Column("latency, ms", lambda entrant: entrant.latency_ms, "{:.2f}".format),
    _Column("k-NN", lambda entrant: entrant.knn, percent),
    _Column("linear", lambda entrant: entrant.linear, percent),
    _Column("neighbours kept", lambda entrant: entrant.agreement, percent),
    _Column("CKA", lambda entrant: entrant.cka, "{:.2f}".format),
    _Column("by chance", lambda entrant: entrant.cka_chance, "{:.2f}".format, quiet=True),
    _Column("effective rank", lambda entrant: entrant.effective_rank, "{:.1f}".format),
)


def layer_table(run: Run) -> str:
    """A line per layer; the lowest layer within a point of the best is marked."""
    assert run.result
    rows, chosen = run.result.rows, cheapest_cut(run.result)
    columns = _measured(LAYER, rows)
    body = "".join(f"<tr{' class=cut' if row is chosen else ''}>{_cells(columns, row)}</tr>" for row in rows)
    return _table(run.name, [column.head for column in columns], body)


def comparison_table(name: str, comparison: Comparison) -> str:
    """A line per network: the student, its teacher, others of the student's kind."""
    columns = _measured(ENTRANT, comparison.entrants)
    body = "".join(
        f'<tr><th scope="row">{escape(entrant.name)}</th>{_cells(columns, entrant)}</tr>'
        for entrant in comparison.entrants
    )
    return _table(name, ["", *(column.head for column in columns)], body)


def _measured(columns: Sequence[_Column[T]], rows: Sequence[T]) -> list[_Column[T]]:
    return [column for column in columns if any(column.value(row) is not None for row in rows)]


def _table(caption: str, heads: Sequence[str], body: str) -> str:
    head = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        f'<div class="table"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(columns: Sequence[_Column[T]], row: T) -> str:
    return "".join(_cell(column, column.value(row)) for column in columns)


def _cell(column: _Column[T], value: float | None) -> str:
    return f"<td{' class=random' if column.quiet else ''}>{'-' if value is None else column.show(value)}</td>"
