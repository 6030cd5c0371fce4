"""The report: one HTML page about runs that needs no network, and the per-layer picture as an SVG."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.report.page import page
from limbeck.report.picture import layer_picture
from limbeck.report.runs import cheapest_cut, read_runs

__all__ = ["cheapest_cut", "layer_picture", "write_report"]


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Writes one self-contained HTML page (about 5 MB, nearly all of it plotly) about run folders to `out`.

    A run that was not evaluated, or logged nothing yet, gets the command that fills the gap in place of the charts.

    Raises:
        UserError: no run, a folder that is none, a broken result or log, a folder at `out`.
    """
    if not runs:
        raise UserError("a report needs at least one run: limbeck report RUN")
    if out.is_dir():
        raise UserError(f"{out} is a folder; give the page a name, such as {out / 'report.html'}")
    text = page(read_runs(runs))
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return out
