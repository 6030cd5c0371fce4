"""The command that one may type next, with the paths of a result."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.core.encoder_modality import encoder_modality
from limbeck.core.errors import UserError
from limbeck.core.run_folder import RESULT

if TYPE_CHECKING:
    from limbeck.modalities import Modality


def export_commands(run: Path) -> list[str]:
    """Return `limbeck export`, cut where the evaluation of the run says, into a folder that is free.

    There is none where no format holds such an encoder.
    """
    formats = run_modality(run).export_formats
    if not formats:
        return []
    depth = _cheapest_depth(run)
    name = f"{run.resolve().name}-{depth}" if depth else run.resolve().name
    out = _free_path(Path("models", name))
    how = [] if "timm" in formats else ["--format", formats[0]]
    return [shlex.join(["limbeck", "export", str(run), str(out), *(["--depth", str(depth)] if depth else []), *how])]


def run_modality(run: Path) -> "Modality[Any, Any]":
    """Return the kind of data that the encoder of a run is for."""
    from limbeck.modalities import modality_named

    return modality_named(encoder_modality(run))


def report_command(runs: Iterable[Path]) -> str:
    """Return `limbeck report`."""
    return shlex.join(["limbeck", "report", *map(str, runs)])


def open_command(page: str) -> str:
    """Return the command that opens a page in the browser."""
    opener = {"darwin": "open", "win32": "start"}.get(sys.platform, "xdg-open")
    return f"{opener} {shlex.quote(page)}"


def _cheapest_depth(run: Path) -> int | None:
    """Return the lowest layer that the evaluation of a run found as good as the best; None before an evaluation."""
    from limbeck.evaluation.results import EvaluationResult
    from limbeck.evaluation.verdict import cheapest_cut

    try:
        layer = cheapest_cut(EvaluationResult.load(run / RESULT)) if (run / RESULT).is_file() else None
    except UserError:
        return None
    return layer.depth if layer else None


def _free_path(path: Path) -> Path:
    """Return `path`, or if something is there the same with a number behind it."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found
