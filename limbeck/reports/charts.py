"""The charts of a report, as HTML fragments that share one copy of plotly."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from markupsafe import Markup

from limbeck.core.html import FONT, LIGHT, SERIES
from limbeck.evaluation.metric import Column
from limbeck.evaluation.metrics import all_columns
from limbeck.evaluation.results import EvaluationResult, LayerResult
from limbeck.reports.runs import Curve, RunSummary

HEADLINE = "knn"
"""Column that is drawn against the cost of a cut."""


class Chart(NamedTuple):
    """A chart with its caption."""

    caption: str
    html: Markup


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    color: str
    xs: list[float]
    ys: list[float | None]
    hover: list[str]
    """Text under the pointer, per point."""
    dashed: bool = False
    labels: list[str] | None = None
    """Text next to each point."""


def color(index: int) -> str:
    """Return the color of the run at `index`; colors repeat after six."""
    return SERIES[index % len(SERIES)]


def by_layer(runs: Sequence[RunSummary], column: Column) -> list[Chart]:
    """Draw a column over the layers: a line per run, and the untrained networks as dashed lines."""
    evaluated = _evaluated(runs)
    lines = [_layer_line(name, shade, result, column) for name, shade, result in evaluated]
    starts = [_layer_line("", LIGHT["quiet"], result, column.untrained()) for _, _, result in evaluated]
    distinct = {str(line.ys): line for line in starts if any(y is not None for y in line.ys)}  # runs may share a start
    names = ["untrained"] if len(distinct) == 1 else [f"untrained {i}" for i in range(1, len(distinct) + 1)]
    dashed = [line._replace(name=name, dashed=True) for name, line in zip(names, distinct.values(), strict=True)]
    layers = sorted({x for line in lines for x in line.xs})
    return _draw([*lines, *dashed], "layer", f"{column.title}, by layer", xaxis={"tickvals": layers})


def by_cost(runs: Sequence[RunSummary], cost: Column) -> list[Chart]:
    """Draw k-NN accuracy over a cost of the network cut at each layer; points carry the number of the layer."""
    headline = next(column for column in all_columns() if column.name == HEADLINE)
    lines = [_cost_line(name, shade, result, cost, headline) for name, shade, result in _evaluated(runs)]
    return _draw(lines, cost.title, f"{headline.title}, by {cost.label}", xaxis={"rangemode": "tozero"})


def of_runs(curves: Sequence[tuple[str, Curve]], caption: str) -> list[Chart]:
    """Draw one curve of training per run, given as (name, points)."""
    return _by_epoch([(name, color(index), points) for index, (name, points) in enumerate(curves)], caption)


def of_terms(curves: Mapping[str, Curve], caption: str) -> list[Chart]:
    """Draw several curves of one run, in shades that follow their order."""
    from plotly.colors import sample_colorscale

    shades = sample_colorscale("Viridis", [0.9 * index / max(len(curves) - 1, 1) for index in range(len(curves))])
    return _by_epoch(
        [(name, shade, points) for (name, points), shade in zip(curves.items(), shades, strict=True)], caption
    )


def _by_epoch(curves: Sequence[tuple[str, str, Curve]], caption: str) -> list[Chart]:
    lines = [
        Line(name, shade, [x for x, _ in points], [y for _, y in points], [""] * len(points))
        for name, shade, points in curves
        if points
    ]
    return _draw(lines, "epoch", caption, markers=False)


def _evaluated(runs: Sequence[RunSummary]) -> list[tuple[str, str, EvaluationResult]]:
    """Return (name, color, result) of the runs that were evaluated; a run has one color in every chart."""
    return [(run.name, color(index), run.result) for index, run in enumerate(runs) if run.result]


def _layer_line(name: str, shade: str, result: EvaluationResult, column: Column) -> Line:
    ys = [column.scaled(layer.values.get(column.name)) for layer in result.layers]
    return Line(name, shade, [float(layer.depth) for layer in result.layers], ys, [_hover(x) for x in result.layers])


def _cost_line(name: str, shade: str, result: EvaluationResult, cost: Column, headline: Column) -> Line:
    points = [(x, layer) for layer in result.layers if (x := cost.scaled(layer.values.get(cost.name))) is not None]
    return Line(
        name,
        shade,
        [x for x, _ in points],
        [headline.scaled(layer.values.get(headline.name)) for _, layer in points],
        [_hover(layer) for _, layer in points],
        labels=[str(layer.depth) for _, layer in points],
    )


def _hover(layer: LayerResult) -> str:
    """Return the depth and the costs of a layer."""
    costs = [column for column in all_columns("cost") if column.priority == 0 and column.name in layer.values]
    parts = [f"{c.label} {c.text(layer.values[c.name])} {c.unit}".strip() for c in costs]
    return "<br>".join([f"layer {layer.depth}", *parts])


def _draw(
    lines: Sequence[Line], x: str, caption: str, *, markers: bool = True, xaxis: dict[str, Any] | None = None
) -> list[Chart]:
    """Return a list of one chart, or of none without anything to draw."""
    import plotly.graph_objects as go

    if not any(y is not None for line in lines for y in line.ys):
        return []
    figure = go.Figure([_scatter(line, markers) for line in lines], _layout(x, xaxis or {}))
    options = {"displayModeBar": False, "responsive": True}
    to_html: Callable[..., str] = figure.to_html
    html = to_html(full_html=False, include_plotlyjs=False, config=options, default_height="320px")
    return [Chart(caption, Markup(html))]


def _scatter(line: Line, markers: bool) -> dict[str, Any]:
    mode = "lines" + ("+markers" if markers else "") + ("+text" if line.labels else "")
    return {
        "type": "scatter",
        "name": escape(line.name),
        "x": line.xs,
        "y": line.ys,
        "mode": mode,
        "text": line.labels,
        "textposition": "top center",
        "textfont": {"color": line.color, "size": 11},
        "customdata": line.hover,
        "hovertemplate": "<b>%{y:.4~g}</b><br>%{customdata}" if markers else "%{y:.4~g}",
        "line": {
            "color": line.color,
            "width": 2.4,
            "dash": "dash" if line.dashed else "solid",
        },
        "marker": {"size": 5 if line.dashed else 7},
        "cliponaxis": False,
    }


def _layout(x: str, xaxis: dict[str, Any]) -> dict[str, Any]:
    plain = {"gridcolor": LIGHT["line"], "zeroline": False, "linecolor": LIGHT["line"], "automargin": True}
    return {
        "font": {"family": FONT, "size": 13, "color": LIGHT["ink"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 36, "r": 14, "t": 34, "b": 44},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "hoverlabel": {"font": {"family": FONT}},
        "xaxis": {**plain, "title": {"text": x, "standoff": 8}, "showgrid": False, **xaxis},
        "yaxis": plain,
    }
