"""The charts of a report: columns by layer and by cost, and curves of training."""

from collections.abc import Iterable, Mapping, Sequence

from limbeck.core.html import SERIES
from limbeck.evaluation.metric import STDERR, Column, Values
from limbeck.evaluation.metrics import all_columns
from limbeck.evaluation.references import UNTRAINED_NETWORK
from limbeck.evaluation.results import EvaluationResult, LayerResult
from limbeck.reports.axis import depth_axis, range_axis, value_axis
from limbeck.reports.plot import Chart, Line, Numbers, Point, Rule, draw
from limbeck.reports.runs import Curve, RunSummary

HEADLINE = "knn"
"""Column that is drawn against the cost of a cut."""

Charts = list[Chart | Numbers]


def color(index: int) -> str:
    """Return the color of the run at `index`; colors repeat after six."""
    return f"var(--series-{index % SERIES})"


def by_layer(runs: Sequence[RunSummary], column: Column) -> Charts:
    """Draw a column over the layers: a line per run, the untrained networks dashed, lines of reference across."""
    evaluated = _evaluated(runs)
    lines = [_layer_line(name, shade, result, column) for name, shade, result in evaluated]
    starts = [_layer_line("", "var(--quiet)", result, column.untrained()) for _, _, result in evaluated]
    distinct = list({str(line.points): line for line in starts if line.points}.values())  # runs may share a start
    names = ["untrained"] if len(distinct) == 1 else [f"untrained {i}" for i in range(1, len(distinct) + 1)]
    dashed = [line._replace(name=name, dashed=True) for name, line in zip(names, distinct, strict=True)]
    depths = sorted({layer.depth for _, _, result in evaluated for layer in result.layers})
    if not depths:
        return []
    rules = _rules(evaluated, column)
    return _some(draw(column.label, [*lines, *dashed], depth_axis(depths), "layer", unit=column.unit, rules=rules))


def by_cost(runs: Sequence[RunSummary], cost: Column) -> Charts:
    """Draw k-NN accuracy over a cost of the network cut at each layer; points carry the number of the layer."""
    headline = next(column for column in all_columns() if column.name == HEADLINE)
    lines = [_cost_line(name, shade, result, cost, headline) for name, shade, result in _evaluated(runs)]
    costs = [point.x for line in lines for point in line.points]
    if not costs:
        return []
    caption = f"{headline.label} by {cost.label}"
    return _some(draw(caption, lines, value_axis(costs, zero=True), cost.title, unit=headline.unit))


def of_runs(curves: Sequence[tuple[str, Curve]], caption: str, unit: str = "") -> Charts:
    """Draw one curve of training per run, given as (name, points)."""
    return _by_epoch([(name, color(index), points) for index, (name, points) in enumerate(curves)], caption, unit)


def of_terms(curves: Mapping[str, Curve], caption: str) -> Charts:
    """Draw several curves of one run, in shades that follow their order."""
    last = max(len(curves) - 1, 1)
    shades = [
        f"color-mix(in oklab, var(--ramp-1) {100 * index / last:.0f}%, var(--ramp-0))" for index in range(len(curves))
    ]
    return _by_epoch(
        [(name, shade, points) for (name, points), shade in zip(curves.items(), shades, strict=True)], caption
    )


def _by_epoch(curves: Sequence[tuple[str, str, Curve]], caption: str, unit: str = "") -> Charts:
    lines = [
        Line(name, shade, [Point(x, y, f"epoch {x:.3g}") for x, y in points], dots=False)
        for name, shade, points in curves
    ]
    epochs = [x for _, _, points in curves for x, _ in points]
    if not epochs:
        return []
    return _some(draw(caption, lines, range_axis(epochs), "epoch", x_name="epoch", unit=unit))


def _some(chart: Chart | Numbers | None) -> Charts:
    return [] if chart is None else [chart]


def _evaluated(runs: Sequence[RunSummary]) -> list[tuple[str, str, EvaluationResult]]:
    """Return (name, color, result) of the runs that were evaluated; a run has one color in every chart."""
    return [(run.name, color(index), run.result) for index, run in enumerate(runs) if run.result]


def _layer_line(name: str, shade: str, result: EvaluationResult, column: Column) -> Line:
    points = [
        Point(layer.depth, y, f"layer {layer.depth}", _error(layer.values, column))
        for layer in result.layers
        if (y := column.scaled(layer.values.get(column.name))) is not None
    ]
    return Line(name, shade, points)


def _error(values: Values, column: Column) -> float:
    """Return the standard error of a value, as it is shown; 0 if there is none."""
    return column.scaled(values.get(column.name + STDERR)) or 0.0


def _rules(evaluated: Iterable[tuple[str, str, EvaluationResult]], column: Column) -> list[Rule]:
    """Return the lines of reference that have one value for all layers; they are the same for runs of one test set."""
    found = {
        (model.name, column.scaled(model.values.get(column.name)))
        for _, _, result in evaluated
        for model in result.references
        if model.name != UNTRAINED_NETWORK
    }
    return [Rule(y, f"{name} {column.format(y)}") for name, y in sorted(found) if y is not None]


def _cost_line(name: str, shade: str, result: EvaluationResult, cost: Column, headline: Column) -> Line:
    points = [
        Point(x, y, _costs(layer), _error(layer.values, headline), str(layer.depth))
        for layer in result.layers
        if (x := cost.scaled(layer.values.get(cost.name))) is not None
        and (y := headline.scaled(layer.values.get(headline.name))) is not None
    ]
    return Line(name, shade, points)


def _costs(layer: LayerResult) -> str:
    """Return the depth and the costs of a layer."""
    costs = [column for column in all_columns("cost") if column.priority == 0 and column.name in layer.values]
    parts = [f"{c.label} {c.text(layer.values[c.name])} {c.unit}".strip() for c in costs]
    return ", ".join([f"layer {layer.depth}", *parts])
