"""The table and the picture of BENCHMARKS.md, from the file of results."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.side_by_side.record import OURS

COLUMNS = ("what", "Limbeck", "beside", "theirs", "theirs over Limbeck's", "range", "rounds", "load")
BLUE, GRAY = "#3f74e8", "#8b93a1"


def number(value: float) -> str:
    """Return three digits of a number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Return by how much Limbeck is faster, or smaller, in each round."""
    return [other / own for own, other in zip(ours, theirs, strict=True)]


def rows(results: dict[str, Any]) -> list[str]:
    """Return the rows of the table."""
    found = []
    for item, result in results.items():
        ours = result["rounds"][OURS]
        for name, theirs in result["rounds"].items():
            if name == OURS:
                continue
            found_ratios = ratios(ours, theirs)
            spread = f"{min(found_ratios):.2f} to {max(found_ratios):.2f}" if len(ours) > 1 else ""
            library = f"{name} {result['versions'].get(name, '')}".strip()
            cells = (item, f"{number(median(ours))} {result['unit']}", library, number(median(theirs)))
            found.append(
                f"| {' | '.join(cells)} | {median(found_ratios):.2f} | {spread} | {len(ours)} | {result['load']} |"
            )
    return found


def notes(results: dict[str, Any]) -> str:
    """Return a sentence for each measurement that has a note, and where all of them were made."""
    said = [f"* {item}: {result['note']}." for item, result in results.items() if result["note"]]
    places = sorted({f"{r['date']}, commit {r['commit']}, {r['processor']}" for r in results.values()})
    versions = next(iter(results.values()))["versions"]
    return "\n".join([*said, "", f"{'; '.join(places)}; torch {versions['torch']}, Python {versions['python']}."])


def section(results: dict[str, Any]) -> str:
    """Return the table, and below it what was measured where."""
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*head, *rows(results), "", notes(results)])


def draw(results: dict[str, Any], out: Path) -> None:
    """Draw a bar for every row: how many times as long the other library takes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "limbeck"
    bars = []
    for item, result in results.items():
        ours = result["rounds"][OURS]
        bars += [(f"{item}: {name}", ratios(ours, t)) for name, t in result["rounds"].items() if name != OURS]
    figure = Figure(figsize=(9, 0.28 * len(bars) + 0.9))
    axes = figure.subplots()
    for place, (_, found) in enumerate(reversed(bars)):
        middle = median(found)
        axes.barh(place, middle - 1, left=1, color=BLUE if middle >= 1 else GRAY, height=0.6)
        axes.plot([min(found), max(found)], [place, place], color=GRAY, linewidth=1.5)
    axes.set_yticks(range(len(bars)), [name for name, _ in reversed(bars)], color=GRAY, fontsize=8)
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], color=GRAY)
    axes.set_xlabel("times as fast (or small) as the other; lines: range of the rounds", color=GRAY, fontsize=8)
    axes.axvline(1, color=GRAY, linewidth=1)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})


def load(path: Path) -> dict[str, Any]:
    """Return the results of a file."""
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results
