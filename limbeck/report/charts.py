"""The charts of a report, as HTML fragments that share one copy of plotly."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from limbeck.evaluate.results import Result, Row
from limbeck.report.runs import Curve, Run

COLOURS = ("#2456c4", "#d1495b", "#0b7a75", "#8a5cc2", "#b0700c", "#4a5568")  # told apart without red and green
MUTED, GRID, INK = "#8b93a1", "#e6e9ef", "#1c2433"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
Value = Callable[[Row], float | None]


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    colour: str
    xs: list[float]
    ys: list[float | None]
    hover: list[str]
    """What is said of each point."""
    dashed: bool = False
    labels: list[str] | None = None
    """Written beside each point."""


def colour(index: int) -> str:
    """Of the run at `index`; they come round again after six."""
    return COLOURS[index % len(COLOURS)]


def by_layer(runs: Sequence[Run], value: Value, untrained: Value | None, axis: str, *, percent: bool = False) -> str:
    """`value` of every layer, a line per run, and the untrained networks as dashed lines."""
    judged = _judged(runs)
    lines = [_layer_line(name, shade, result, value, percent=percent) for name, shade, result in judged]
    starts = [_layer_line("", MUTED, result, untrained, percent=percent) for _, _, result in judged if untrained]
    distinct = {str(line.ys): line for line in starts if any(y is not None for y in line.ys)}  # runs may share a start
    names = ["untrained"] if len(distinct) == 1 else [f"untrained {i}" for i in range(1, len(distinct) + 1)]
    dashed = [line._replace(name=name, dashed=True) for name, line in zip(names, distinct.values(), strict=True)]
    layers = sorted({x for line in lines for x in line.xs})
    return draw([*lines, *dashed], "layer", axis, xaxis={"tickvals": layers})


def by_cost(runs: Sequence[Run], price: Value, name: str, unit: str) -> str:
    """k-NN accuracy against what the network costs when it is cut at each layer; points carry the layer's number."""
    lines = [_cost_line(run, shade, result, price) for run, shade, result in _judged(runs)]
    return draw(lines, unit, f"k-NN accuracy, %, against {name}", xaxis={"rangemode": "tozero"})


def of_runs(curves: Sequence[tuple[str, Curve]], axis: str) -> str:
    """One curve of training per run, as (name, points)."""
    return _by_epoch([(name, colour(index), points) for index, (name, points) in enumerate(curves)], axis)


def of_terms(curves: Mapping[str, Curve], axis: str) -> str:
    """Several curves of one run, in shades that follow their order."""
    from plotly.colors import sample_colorscale

    shades = sample_colorscale("Viridis", [0.9 * index / max(len(curves) - 1, 1) for index in range(len(curves))])
    return _by_epoch(
        [(name, shade, points) for (name, points), shade in zip(curves.items(), shades, strict=True)], axis
    )


def _by_epoch(curves: Sequence[tuple[str, str, Curve]], axis: str) -> str:
    lines = [
        Line(name, shade, [x for x, _ in points], [y for _, y in points], [""] * len(points))
        for name, shade, points in curves
        if points
    ]
    return draw(lines, "epoch", axis, markers=False)


def about(row: Row) -> str:
    """What is said of a layer under the pointer."""
    words = [f"layer {row.tap}", f"{row.parameters / 1e6:.2f} M parameters", f"{row.gflops:.3g} GFLOPs"]
    return "<br>".join(words + ([f"{row.latency_ms:.2f} ms per image"] if row.latency_ms is not None else []))


def draw(lines: Sequence[Line], x: str, y: str, *, markers: bool = True, xaxis: dict[str, Any] | None = None) -> str:
    """A chart as a `<figure>`, `y` being its caption; empty without anything to draw."""
    import plotly.graph_objects as go

    if not any(y is not None for line in lines for y in line.ys):
        return ""
    figure = go.Figure([_scatter(line, markers) for line in lines], _layout(x, xaxis or {}))
    options = {"displayModeBar": False, "responsive": True}
    html: str = figure.to_html(full_html=False, include_plotlyjs=False, config=options, default_height="320px")
    return f'<figure class="chart"><figcaption>{escape(y)}</figcaption>{html}</figure>'


def _judged(runs: Sequence[Run]) -> list[tuple[str, str, Result]]:
    """(name, colour, result) of the runs that were evaluated; a run has its colour in every chart."""
    return [(run.name, colour(index), run.result) for index, run in enumerate(runs) if run.result]


def _layer_line(name: str, shade: str, result: Result, value: Value, *, percent: bool) -> Line:
    ys = [_scaled(value(row), percent=percent) for row in result.rows]
    return Line(name, shade, [float(row.tap) for row in result.rows], ys, [about(row) for row in result.rows])


def _cost_line(name: str, shade: str, result: Result, price: Value) -> Line:
    priced = [(x, row) for row in result.rows if (x := price(row)) is not None]
    return Line(
        name,
        shade,
        [x for x, _ in priced],
        [_scaled(row.knn, percent=True) for _, row in priced],
        [about(row) for _, row in priced],
        labels=[str(row.tap) for _, row in priced],
    )


def _scaled(value: float | None, *, percent: bool) -> float | None:
    return 100 * value if percent and value is not None else value


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
        "textfont": {"color": line.colour, "size": 11},
        "customdata": line.hover,
        "hovertemplate": "<b>%{y:.4~g}</b><br>%{customdata}" if markers else "%{y:.4~g}",
        "line": {
            "color": line.colour,
            "width": 2.4,
            "dash": "dash" if line.dashed else "solid",
        },
        "marker": {"size": 5 if line.dashed else 7},
        "cliponaxis": False,
    }


def _layout(x: str, xaxis: dict[str, Any]) -> dict[str, Any]:
    plain = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "automargin": True}
    return {
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 36, "r": 14, "t": 34, "b": 44},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "hoverlabel": {"font": {"family": FONT}},
        "xaxis": {**plain, "title": {"text": x, "standoff": 8}, "showgrid": False, **xaxis},
        "yaxis": plain,
    }
