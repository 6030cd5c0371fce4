"""The page: what the template `report.html` shows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from limbeck.core.html import render
from limbeck.reports import charts, text
from limbeck.reports.command import run_command
from limbeck.reports.confusions import confusions
from limbeck.reports.pictures import Gallery, gallery
from limbeck.reports.portable import portable_command, portable_config
from limbeck.reports.runs import RunSummary
from limbeck.reports.sections import sections
from limbeck.reports.settings import settings
from limbeck.reports.summary import bars, headline, key_numbers
from limbeck.reports.tables import reference_table
from limbeck.reports.text import Gap


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run at the top of the page, and where it comes from at the end."""

    name: str
    color: str
    headline: str
    verdict: str
    gaps: Sequence[Gap]
    command: str
    evaluation: str
    evaluation_command: str
    config: str


def page(runs: Sequence[RunSummary], *, images: bool = True) -> str:
    """Return the whole page; without `images` it has no pictures of the data."""
    return render(
        "report.html",
        title=" and ".join(run.name for run in runs) if len(runs) < 3 else f"{len(runs)} runs",
        runs=[_run(run, charts.color(index)) for index, run in enumerate(runs)],
        key_numbers=key_numbers(runs),
        bars=bars(runs),
        references=[table for run in runs for table in reference_table(run)],
        gallery=gallery(runs) if images else Gallery(),
        confusions=confusions(runs),
        sections=sections(runs),
        settings=settings(runs),
        version=version("limbeck"),
    )


def _run(run: RunSummary, color: str) -> _Run:
    return _Run(
        name=run.name,
        color=color,
        headline=headline(run),
        verdict=f"{run.result.verdict}." if run.result and run.result.verdict else "",
        gaps=text.gaps(run),
        command=portable_command(run_command(run.config, f"{run.folder}-again")) if run.config.store else "",
        evaluation=text.evaluation(run),
        evaluation_command=run.result.command if run.result else "",
        config=json.dumps(portable_config(run.config), indent=2),
    )
