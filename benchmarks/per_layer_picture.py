"""Draw k-NN accuracy over the depth of the cut, from the results of runs: docs/per_layer.svg of the README.

    limbeck demo --out demo
    python benchmarks/per_layer_picture.py demo/runs/sdssl demo/runs/simclr --out docs/per_layer.svg

One line per run, named by its folder, and a dashed line for each distinct untrained network. Colors and text are
legible on white and on black pages. Needs matplotlib (`pip install 'limbeck[dev]'`).
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limbeck.core.run_folder import RESULT
from limbeck.evaluation.results import EvaluationResult

COLORS = ("#3f74e8", "#e0525f", "#14958e", "#a074dd", "#c98512", "#7a8699")
GRAY = "#8b93a1"
TITLE = "k-NN accuracy (%) of the network cut at each layer"
Points = tuple[tuple[int, float], ...]  # (layer, percent)


class Line(NamedTuple):
    """A run, or the untrained network."""

    name: str
    color: str
    points: Points
    dashed: bool = False


def points(result: EvaluationResult, column: str) -> Points:
    """Return the layers that have a value in `column`, with the value in percent."""
    found = [(layer.depth, layer.values.get(column)) for layer in result.layers]
    return tuple((depth, 100 * value) for depth, value in found if value is not None)


def lines_of(results: dict[str, EvaluationResult]) -> list[Line]:
    """Return a line per result, and one per distinct untrained network."""
    runs = zip(results.items(), COLORS, strict=False)
    trained = [Line(name, color, points(result, "knn")) for (name, result), color in runs]
    starts = dict.fromkeys(points(result, "untrained_knn") for result in results.values())
    return [*trained, *(Line("untrained", GRAY, start, dashed=True) for start in starts if start)]


def draw_names(axes: Axes, lines: Sequence[Line]) -> None:
    """Write the name of each line at its right end, moved down where it would cover another."""
    low, high = axes.get_ylim()
    free = math.inf
    for line in sorted(lines, key=lambda line: -line.points[-1][1]):
        x, y = line.points[-1]
        free = min(y, free - (high - low) / 16)
        axes.annotate(
            line.name, (x, free), (10, 0), textcoords="offset points", va="center", color=line.color, fontweight="bold"
        )


def draw(results: dict[str, EvaluationResult]) -> Figure:
    """Return the figure of the results, by name."""
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    axes, lines = figure.subplots(), lines_of(results)
    for line in lines:
        style, marker = ("--", "") if line.dashed else ("-", "o")
        axes.plot(*zip(*line.points, strict=True), color=line.color, linewidth=2.2, linestyle=style, marker=marker)
    draw_names(axes, lines)
    axes.set_title(TITLE, loc="left", fontweight="bold", color=GRAY)
    axes.set_xlabel("layer at which the network ends", color=GRAY)
    axes.tick_params(colors=GRAY, length=0)
    axes.set_xticks(sorted({depth for result in results.values() for depth, _ in points(result, "knn")}))
    axes.grid(axis="y", color=GRAY, alpha=0.3)
    axes.spines[:].set_visible(False)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Read the results of the run folders and write the SVG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/per_layer.svg"))
    args = parser.parse_args(argv)
    results = {run.name: EvaluationResult.load(run / RESULT) for run in args.runs}
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "limbeck", "font.size": 11, "font.family": "sans-serif"}
    draw(results).savefig(args.out, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
