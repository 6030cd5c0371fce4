"""A local viewer for maps of millions of images: Embedding Atlas, a program of its own that reads the parquet file."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from limbeck.core.errors import UserError

PROGRAM = "embedding-atlas"
INSTALL = "pip install embedding-atlas"
COLUMNS = ("--x", "x", "--y", "y", "--image", "image", "--neighbors", "neighbors")
LOCAL = ("--host", "127.0.0.1")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def viewer_command(table: Path) -> list[str]:
    """Return the command that shows a table of `write_table` in the browser, on this machine alone."""
    return [PROGRAM, str(table.absolute()), *COLUMNS, *LOCAL]


def find_viewer() -> str | None:
    """Return the path of the viewer; None if it is not on PATH."""
    return shutil.which(PROGRAM)


def run_viewer(program: str, command: Sequence[str]) -> None:
    """Run the viewer until it ends; it does not outlive this process's interruption.

    Raises:
        UserError: it cannot be started, or ends with an error.
    """
    try:
        viewer = subprocess.Popen([program, *command[1:]], env={**os.environ, **OFFLINE})
    except OSError as error:
        raise UserError(f"'{program}' cannot be started: {error}", code="viewer-failed") from error
    try:
        status = viewer.wait()
    except BaseException:
        viewer.terminate()
        viewer.wait()
        raise
    if status:
        raise UserError(
            f"'{program}' ended with status {status}: install it again ({INSTALL}), or take another viewer",
            code="viewer-failed",
        )
