"""The table and the picture of the ingredients, from the file of results."""

from pathlib import Path
from statistics import mean
from typing import Any

BLUE, GRAY = "#3f74e8", "#8b93a1"
COLUMNS = ("ingredients", "steps", "20-NN, plain", "half-whitened", "seeds", "load")
ERROR = 0.4  # points: standard error of an accuracy of 10,000 images


def section(results: dict[str, Any]) -> str:
    """Return a row per arm, and below the table what was measured where."""
    rows = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for arm, seeds in results.items():
        found = list(seeds.values())
        steps = ", ".join(f"{one['steps']:,}" for one in found)
        plain, white = (f"{mean(one[name] for one in found):.1f} %" for name in ("plain", "half-whitened"))
        load = ", ".join(f"{one['load']:g}" for one in found)
        rows.append(f"| {arm} | {steps} | {plain} | {white} | {', '.join(seeds)} | {load} |")
    every = [one for seeds in results.values() for one in seeds.values()]
    places = sorted({f"{one['date']}, {one['commit']}, {one['processor']}" for one in every})
    minutes = sorted({f"{one['minutes']:g}" for one in every})
    return "\n".join([*rows, "", f"{' and '.join(minutes)} minutes of one thread; {'; '.join(places)}."])


def draw(results: dict[str, Any], out: Path) -> None:
    """Draw a bar for every arm, plain accuracy, and a point for the half-whitened one."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "limbeck"
    figure = Figure(figsize=(8, 0.36 * len(results) + 0.9))
    axes = figure.subplots()
    for place, (arm, seeds) in enumerate(reversed(results.items())):
        plain, white = (mean(one[name] for one in seeds.values()) for name in ("plain", "half-whitened"))
        color = GRAY if arm.startswith("lightly") else BLUE
        axes.barh(place, plain, color=color, height=0.62, alpha=1 if arm == "as it is" else 0.55)
        axes.plot(white, place, "o", color=color, markersize=4)
        axes.text(max(plain, white) + 1, place, f"{plain:.1f}", color=GRAY, va="center", fontsize=8)
    axes.set_yticks(range(len(results)), list(reversed(results)), color=GRAY, fontsize=8)
    axes.tick_params(axis="x", colors=GRAY, labelsize=8)
    axes.set_xlim(0, 82)
    note = f"20-NN accuracy of CIFAR-10, % (standard error {ERROR}); points: half-whitened"
    axes.set_xlabel(note, color=GRAY, fontsize=8)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
