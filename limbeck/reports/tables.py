"""The layers of a run, and a student with its teacher, as tables for the page."""

from collections.abc import Sequence
from typing import NamedTuple

from limbeck.evaluation.columns import RESULT_ONLY, fallen, measured_columns
from limbeck.evaluation.metric import STDERR, UNTRAINED, Column, Group, Values
from limbeck.evaluation.verdict import cheapest_cut
from limbeck.reports.runs import RunSummary


class Cell(NamedTuple):
    """A value of a table."""

    text: str
    noise: bool


class Row(NamedTuple):
    """A line of a table, under its name."""

    name: str
    cells: list[Cell]
    highlighted: bool


class Table(NamedTuple):
    """A table with a caption, a heading for the names, and the columns of metrics."""

    caption: str
    head: str
    columns: list[Column]
    rows: list[Row]


def layer_table(run: RunSummary, *groups: Group) -> Table:
    """Return some groups of columns, a row per layer; the lowest within one standard error of the best is marked."""
    assert run.result
    layers, cut = run.result.layers, cheapest_cut(run.result)
    values = [layer.values for layer in layers]
    columns = _shown(measured_columns(values, *groups))
    rows = [
        Row(str(layer.depth), cells, layer is cut)
        for layer, cells in zip(layers, _cells(columns, values, by_depth=True), strict=True)
    ]
    return Table(run.name, "layer", columns, rows)


def reference_table(run: RunSummary) -> list[Table]:
    """Return a table of a run at its last layer and of its lines of reference, in a list; empty if it has none."""
    if not run.result or not run.result.references:
        return []
    values = [run.result.layers[-1].values, *(model.values for model in run.result.references)]
    measured = _shown(measured_columns(values, "cost", "accuracy"))
    columns = [column for column in measured if not column.name.startswith(UNTRAINED)]
    names = [run.name, *(model.name for model in run.result.references)]
    rows = [Row(name, cells, False) for name, cells in zip(names, _cells(columns, values, by_depth=False), strict=True)]
    return [Table(run.name, "network", columns, rows)]


def comparison_table(run: RunSummary) -> list[Table]:
    """Return the table of a comparison, a row per model, in a list; an empty list for a run without a teacher."""
    comparison = run.result.comparison if run.result else None
    if comparison is None:
        return []
    values = [model.values for model in comparison.models]
    columns = _shown(measured_columns(values))
    names = [model.name for model in comparison.models]
    rows = [Row(name, cells, False) for name, cells in zip(names, _cells(columns, values, by_depth=False), strict=True)]
    return [Table(run.name, "model", columns, rows)]


def _shown(columns: Sequence[Column]) -> list[Column]:
    """Return the columns of a page: standard errors stand next to their values."""
    return [column for column in columns if column.priority < RESULT_ONLY and not column.name.endswith(STDERR)]


def _cells(columns: Sequence[Column], values: Sequence[Values], *, by_depth: bool) -> list[list[Cell]]:
    """Return the cells of every row; in a table by depth, values within the noise are marked."""
    noise = [fallen(column, values) for column in columns]
    return [
        [Cell(_text(column, row), by_depth and noisy[index]) for column, noisy in zip(columns, noise, strict=True)]
        for index, row in enumerate(values)
    ]


def _text(column: Column, row: Values) -> str:
    """Return a value, with its standard error if it has one."""
    text, error = column.text(row.get(column.name)), row.get(column.name + STDERR)
    return f"{text} ± {column.text(error)}" if error is not None and not column.reference else text
