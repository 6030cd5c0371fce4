"""The page: what the template `report.html` shows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from limbeck.core.config import to_json
from limbeck.core.html import render
from limbeck.reports import charts, text
from limbeck.reports.command import run_command
from limbeck.reports.runs import RunSummary
from limbeck.reports.sections import sections
from limbeck.reports.text import Gap


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run at the top of the page, and how it can be repeated at the end."""

    name: str
    color: str
    summary: str
    knn: str
    untrained_knn: str
    gaps: Sequence[Gap]
    command: str
    evaluation: str
    config: str


def page(runs: Sequence[RunSummary]) -> str:
    """Return the whole page, plotly included."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    return render(
        "report.html",
        title=" and ".join(run.name for run in runs) if len(runs) < 3 else f"{len(runs)} runs",
        runs=[_run(run, charts.color(index)) for index, run in enumerate(runs)],
        sections=sections(runs),
        plotly=Markup(get_plotlyjs()),
        version=version("limbeck"),
    )


def _run(run: RunSummary, color: str) -> _Run:
    return _Run(
        name=run.name,
        color=color,
        summary=text.summary(run),
        knn=text.last_accuracy(run),
        untrained_knn="" if run.untrained_knn is None else text.percent(run.untrained_knn),
        gaps=text.gaps(run),
        command=run_command(run.config, f"{run.folder}-again") if run.config.store else "",
        evaluation=text.evaluation(run),
        config=json.dumps(to_json(run.config), indent=2),
    )
