"""The page of a report: what the template `report.html` shows, and the file that it is written to."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from limbeck.core.disk import check_writable, make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, check_ours
from limbeck.core.html import PAGE_START, render
from limbeck.reports import charts, text
from limbeck.reports.command import run_command
from limbeck.reports.confusions import confusions
from limbeck.reports.pictures import Gallery, gallery
from limbeck.reports.portable import portable_command, portable_config
from limbeck.reports.runs import RunSummary, read_runs
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


def write_report(runs: Sequence[Path], out: Path, *, images: bool = True) -> Path:
    """Write one self-contained HTML page about run folders, and return its path.

    For a run that was not evaluated, or has not logged anything yet, the page shows the command that fills the gap.
    Without `images` the page has no pictures of the data.

    Raises:
        UserError: no run, a folder that is not a run, a damaged result or log, a folder at `out`.
    """
    if not runs:
        raise UserError("a report needs at least one run: limbeck report RUN", code="no-run")
    if out.is_dir():
        raise UserError(
            f"'{out}' is a folder; give the page a file name, such as {out / 'report.html'}", code="out-is-a-folder"
        )
    check_ours(out, PAGE_START, "report")
    check_writable(out.absolute().parent)
    text = page(read_runs(runs), images=images)
    make_folder(out.absolute().parent)
    with atomic_write(out) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return out


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
