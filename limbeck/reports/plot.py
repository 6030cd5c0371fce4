"""Lines in a frame, as the template `chart.html` draws them: places in %, so that a chart has any width."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from limbeck.reports.axis import Axis, value_axis

MAX_POINTS = 240  # drawn of a line
MAX_STOPS = 40  # places of a chart that show their values
FEW_POINTS = 40  # up to here every point has a place of its own
READINGS = 3  # a line has at least as many; fewer are a row of numbers


class Point(NamedTuple):
    """A reading."""

    x: float
    y: float
    name: str = ""
    """Name of the point, such as "layer 3"."""
    error: float = 0.0
    """Its standard error, drawn as a whisker."""
    label: str = ""
    """Text next to the point."""


class Line(NamedTuple):
    """The readings of one thing."""

    name: str
    color: str
    points: list[Point]
    dashed: bool = False
    dots: bool = True

    @property
    def joined(self) -> bool:
        """Whether the order of the readings is that of the axis."""
        xs = [point.x for point in self.points]
        return xs == sorted(xs)


class Rule(NamedTuple):
    """A horizontal line across the chart, with a text."""

    y: float
    text: str


class Drawn(NamedTuple):
    """A line in the coordinates of the frame, as SVG paths."""

    name: str
    color: str
    dashed: bool
    path: str
    dots: str
    whiskers: str


class Value(NamedTuple):
    """A line of the text that appears at a stop."""

    color: str
    name: str
    text: str


class Stop(NamedTuple):
    """A place that shows values under the pointer or with the focus: a point, or a band without `top`."""

    left: float
    top: float | None
    width: float
    title: str
    values: list[Value]


class Label(NamedTuple):
    """A text in the frame."""

    left: float
    top: float
    text: str
    color: str


class Chart(NamedTuple):
    """A chart with its caption, or where there are too few readings its numbers."""

    caption: str
    x_title: str
    x: Axis
    y: Axis
    lines: list[Drawn]
    stops: list[Stop]
    labels: list[Label]
    rules: list[Label]
    unit: str

    @property
    def gutter(self) -> int:
        """Characters of the longest label of the y axis."""
        return max(map(len, self.y.labels))


class Numbers(NamedTuple):
    """Readings that are too few for a chart."""

    caption: str
    rows: list[Value]


def draw(
    caption: str,
    lines: Sequence[Line],
    x: Axis,
    x_title: str,
    *,
    x_name: str = "",
    unit: str = "",
    rules: Sequence[Rule] = (),
) -> Chart | Numbers | None:
    """Return the chart of some lines, their numbers if none has `READINGS` of them, or None without any.

    Args:
        caption: what is measured.
        lines: in the order of the legend.
        x: the axis.
        x_title: what it shows, with its unit.
        x_name: the word before a value of x where values are shown in bands.
        unit: of the values.
        rules: horizontal lines.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    if max(len(line.points) for line in lines) < READINGS:
        return Numbers(caption, [_few(line, unit) for line in lines])
    values = [point.y + sign * point.error for line in lines for point in line.points for sign in (-1, 1)]
    y = value_axis([*values, *(rule.y for rule in rules)])
    single = sum(len(line.points) for line in lines) <= FEW_POINTS and all(line.dots for line in lines)
    return Chart(
        caption=caption,
        x_title=x_title,
        x=x,
        y=y,
        lines=[_drawn(line, x, y) for line in lines],
        stops=_point_stops(lines, x, y, unit) if single else _bands(lines, x, x_name, unit),
        labels=[
            Label(x.place(point.x), 100 - y.place(point.y), point.label, line.color)
            for line in lines
            for point in line.points
            if point.label
        ],
        rules=[Label(0, 100 - y.place(rule.y), rule.text, "") for rule in rules],
        unit=unit,
    )


def text(value: float, unit: str = "") -> str:
    """Return a value with four digits and its unit."""
    return f"{value:.4g} {unit}".strip()


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """Return at most `most` points: of every stretch the lowest and the highest, so that no peak is lost."""
    if len(points) <= most:
        return list(points)
    found: list[Point] = []
    for part in range(most // 2):
        piece = points[part * len(points) // (most // 2) : (part + 1) * len(points) // (most // 2)]
        extremes = {min(piece, key=lambda point: point.y), max(piece, key=lambda point: point.y)}
        found += sorted(extremes)
    return found


def _few(line: Line, unit: str) -> Value:
    readings = [f"{point.name or f'{point.x:g}'}: {text(point.y, unit)}" for point in line.points]
    return Value(line.color, line.name, ", ".join(readings))


def _drawn(line: Line, x: Axis, y: Axis) -> Drawn:
    def down(value: float) -> float:
        return round(100 - y.place(value), 2)

    points = thin(line.points)
    places = [(x.place(point.x), down(point.y)) for point in points]
    path = "L".join(f"{left} {top}" for left, top in places)
    whiskers = (
        f"M{left} {down(point.y - point.error)}V{down(point.y + point.error)}"
        for (left, _), point in zip(places, points, strict=True)
        if point.error
    )
    return Drawn(
        name=line.name,
        color=line.color,
        dashed=line.dashed,
        path=f"M{path}" if line.joined else "",
        dots="".join(f"M{left} {top}h0" for left, top in places) if line.dots else "",
        whiskers="".join(whiskers),
    )


def _point_stops(lines: Sequence[Line], x: Axis, y: Axis, unit: str) -> list[Stop]:
    return [
        Stop(
            left=x.place(point.x),
            top=round(100 - y.place(point.y), 2),
            width=0,
            title=point.name,
            values=[Value(line.color, line.name, _with_error(point, unit))],
        )
        for line in lines
        for point in line.points
    ]


def _with_error(point: Point, unit: str) -> str:
    error = f" ± {text(point.error)}" if point.error else ""
    return f"{text(point.y)}{error} {unit}".strip()


def _bands(lines: Sequence[Line], x: Axis, x_name: str, unit: str) -> list[Stop]:
    """Return bands that share the width of the chart, each with the reading of every line nearest to its center."""
    xs = sorted({point.x for line in lines for point in line.points})
    shown = xs if len(xs) <= MAX_STOPS else [xs[i * (len(xs) - 1) // (MAX_STOPS - 1)] for i in range(MAX_STOPS)]
    edges = [shown[0], *((a + b) / 2 for a, b in pairwise(shown)), shown[-1]]
    bands = []
    for at, (low, high) in zip(shown, pairwise(edges), strict=True):
        near = [(line, min(line.points, key=lambda point: abs(point.x - at))) for line in lines]
        values = [Value(line.color, line.name, text(point.y, unit)) for line, point in near]
        left = x.place(low)
        bands.append(Stop(left, None, round(x.place(high) - left, 2), f"{x_name} {at:.4g}".strip(), values))
    return bands
