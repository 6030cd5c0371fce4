"""Files and folders that appear whole or not at all, whatever ends the process, and JSON."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck.core.disk import fsync, fsync_tree, is_refusal, make_folder, not_readable, write_errors_as_user_error
from limbeck.core.errors import UserError, one_line
from limbeck.core.unfinished import claim_unfinished


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; when the block ends, sync it to the disk and rename it to `path`.

    If an exception or the end of the process comes first, `path` stays as it was.

    Raises:
        UserError: the disk is full, or the place may not be written.
    """
    with write_errors_as_user_error(path), claim_unfinished(path, "file") as unfinished:
        yield unfinished
        fsync(unfinished)
        os.replace(unfinished, path)
        fsync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path` that becomes `path`, a new or an empty folder, when the block ends.

    Raises:
        UserError: the disk is full, the place may not be written, or something has appeared at `path`.
    """
    make_folder(path.parent)
    with write_errors_as_user_error(path), claim_unfinished(path, "folder") as unfinished:
        yield unfinished
        fsync_tree(unfinished)
        os.replace(unfinished, path)
        fsync(path.parent)


def check_ours(path: Path, marks: bytes, kind: str) -> None:
    """Raise UserError where `path` exists and is no file that begins with `marks`: it is not ours to replace."""
    try:
        with path.open("rb") as file:
            ours = file.read(len(marks)) in (marks, b"")
    except FileNotFoundError:
        return
    except OSError as error:
        raise not_readable(path, error) from error
    if not ours:
        raise UserError(f"'{path}' exists and is no {kind} of Limbeck's: choose another place", code="not-ours")


def read_json(path: Path, remedy: str = "") -> Any:
    """Return the content of a JSON file; raise UserError where it cannot be read, with `remedy` as the way out."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if is_refusal(error):
            raise not_readable(path, error) from error
        raise UserError(
            f"'{path}' is not valid JSON ({one_line(error)}){remedy and ': ' + remedy}", code="not-json"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as an indented JSON file that appears whole."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
