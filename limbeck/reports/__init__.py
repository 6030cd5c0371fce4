"""The report: one HTML page about runs, without scripts or styles from the network."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.core.disk import check_writable, make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write, check_ours
from limbeck.core.html import PAGE_START
from limbeck.evaluation.verdict import cheapest_cut
from limbeck.reports.page import page
from limbeck.reports.runs import read_runs

__all__ = ["cheapest_cut", "write_report"]


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
