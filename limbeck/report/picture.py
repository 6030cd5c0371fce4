"""The per-layer picture as an SVG, readable on light and dark pages, for pages that run no scripts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.evaluate.results import Result

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 150, 52, 56  # margins; the names of the lines stand in the right one
LEADING = 18  # least distance of two names
COLOURS = ("#3f74e8", "#e0525f", "#14958e", "#a074dd", "#c98512", "#7a8699")  # seen on white and on black
GREY = "#8b93a1"
STYLE = (
    "text{font:14px system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;fill:#1c2433}"
    "text.quiet{fill:#5a6475;font-size:13px}text.title{font-size:16px;font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#e9edf4}text.quiet{fill:#a8b1c0}}"
)
TITLE = "k-NN accuracy (%) of the network cut at each layer"


class _Line(NamedTuple):
    name: str
    colour: str
    points: list[tuple[int, float]]  # (layer, percent)
    dashed: bool = False


class _Scale(NamedTuple):
    """From layers and percents to pixels."""

    layers: int
    low: float
    high: float

    def x(self, layer: float) -> float:
        return LEFT + (layer - 1) / max(self.layers - 1, 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def layer_picture(results: Mapping[str, Result], out: Path, title: str = TITLE) -> Path:
    """Writes a line per result (name -> result), and each distinct untrained network as a dashed line, to `out`.

    Raises:
        UserError: results without k-NN accuracies.
    """
    named = zip(results.items(), COLOURS * (len(results) // len(COLOURS) + 1), strict=False)
    lines = [
        _Line(name, colour, _points((row.tap, row.knn) for row in result.rows)) for (name, result), colour in named
    ]
    if not all(line.points for line in lines):
        raise UserError("there is no k-NN accuracy to draw: evaluate every run on labelled images")
    starts = [_points((row.tap, row.random_knn) for row in result.rows) for result in results.values()]
    distinct = {str(points): points for points in starts if points}
    dashed = [_Line("untrained", GREY, points, dashed=True) for points in distinct.values()]
    with atomic_write(out) as unfinished:
        unfinished.write_text(_svg(title, lines + dashed), encoding="utf-8")
    return out


def _points(pairs: Iterable[tuple[int, float | None]]) -> list[tuple[int, float]]:
    return [(layer, 100 * value) for layer, value in pairs if value is not None]


def _svg(title: str, lines: Sequence[_Line]) -> str:
    values = [value for line in lines for _, value in line.points]
    step = 10 if max(values) - min(values) > 25 else 5
    low, high = step * math.floor(min(values) / step), step * math.ceil(max(values) / step)
    scale = _Scale(max(layer for line in lines for layer, _ in line.points), low, max(high, low + step))
    parts = [*_axes(scale, range(low, int(scale.high) + 1, step)), *(_drawn(line, scale) for line in lines)]
    body = "\n".join([_text(LEFT - 32, 24, title, "title"), *parts, *_names(lines, scale)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">\n<style>{STYLE}</style>\n'
        f"{body}\n</svg>\n"
    )


def _axes(scale: _Scale, ticks: Iterable[int]) -> list[str]:
    right = WIDTH - RIGHT
    grid = [
        f'<path d="M{LEFT} {scale.y(tick):.1f}H{right}" stroke="{GREY}" stroke-opacity=".3"/>'
        + _text(LEFT - 12, scale.y(tick) + 4, str(tick), "quiet", "end")
        for tick in ticks
    ]
    bottom = HEIGHT - BOTTOM + 22
    layers = [_text(scale.x(layer), bottom, str(layer), "quiet", "middle") for layer in range(1, scale.layers + 1)]
    return [
        *grid,
        *layers,
        _text((LEFT + right) / 2, bottom + 24, "layer at which the network ends", "quiet", "middle"),
    ]


def _drawn(line: _Line, scale: _Scale) -> str:
    places = [(scale.x(layer), scale.y(value)) for layer, value in line.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{line.colour}"/>' for x, y in places)
    dash = ' stroke-dasharray="6 5"' if line.dashed else ""
    return f'<path d="M{path}" fill="none" stroke="{line.colour}" stroke-width="2.5"{dash}/>{"" if dash else dots}'


def _names(lines: Sequence[_Line], scale: _Scale) -> list[str]:
    """The name of each line at its end, moved down where it would cover another."""
    found, free = [], -math.inf
    for y, line in sorted(((scale.y(line.points[-1][1]) + 5, line) for line in lines), key=lambda pair: pair[0]):
        free = max(y, free + LEADING)
        found.append(_text(scale.x(line.points[-1][0]) + 14, free, line.name, colour=line.colour))
    return found


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start", colour: str = "") -> str:
    style = f' style="fill:{colour};font-weight:600"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"{style}>{escape(text)}</text>'
