"""`limbeck runs`: list and compare runs."""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from limbeck.cli.command import Command, Output
from limbeck.cli.next import report_command
from limbeck.core.text import printable

if TYPE_CHECKING:
    from limbeck.runs.listing import RunStatus

GROUP = "Evaluate"


@dataclass(frozen=True, kw_only=True)
class RunsArgs:
    """Arguments of `limbeck runs`."""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = "runs"
    """Folder that is searched for runs."""


def _runs(args: RunsArgs) -> Output:
    from limbeck.runs.listing import find_runs, read_status

    folder = Path(args.folder)
    found = [read_status(run) for run in find_runs(folder)]
    if not found:
        return Output(
            {"runs": []}, [f"no runs in '{folder}': `limbeck pretrain` writes to runs/ unless told otherwise"]
        )
    stopped = [f"limbeck resume {shlex.quote(status.folder)}" for status in found if status.state == "stopped"]
    ended = [Path(status.folder) for status in found if status.state == "finished"]
    return Output(
        {"runs": [dataclasses.asdict(status) for status in found]},
        [_table(found, folder)],
        next_commands=[*stopped[:1], *([report_command(ended[:4])] if ended else [])],
    )


def _table(found: "list[RunStatus]", folder: Path) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "run", "method", "network", "images", "epoch", "step", "k-NN %", "state", box=SIMPLE_HEAD, pad_edge=False
    )
    best = max((status.knn for status in found if status.knn is not None), default=None)
    for status in found:
        path = Path(status.folder)
        name = str(path.relative_to(folder)) if path != folder else path.name
        teacher = f" from {Path(status.teacher).name}" if status.teacher else ""
        knn = (
            ""
            if status.knn is None
            else f"{100 * status.knn:.1f}{' *' if status.knn == best and len(found) > 1 else ''}"
        )
        epochs = f"{round(status.epoch, 1):g}" + (
            f"/{round(status.epochs, 1):g}" if isinstance(status.epochs, int | float) else ""
        )
        images = "" if status.images is None else f"{status.images:,}"
        cells = (name, status.method + teacher, status.network, images, epochs, f"{status.step:,}", knn, status.state)
        table.add_row(*map(Text, map(printable, cells)))
    return table


RUNS = Command(
    GROUP,
    """List and compare runs: method, network, progress, k-NN, state.
  A run is running, stopped (`limbeck resume` continues it), finished, collapsed
  (docs/health.md) or damaged. The k-NN accuracy is the last one of training,
  within its own store; the best one has a star.

Examples:
  limbeck runs
  limbeck runs experiments/ --json""",
    lambda argv: RunsArgs,
    _runs,
)
