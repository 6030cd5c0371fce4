"""Files and folders that appear whole or not at all, whatever ends the process, and JSON."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck.core.disk import (
    check_writable,
    exchange,
    fsync,
    fsync_tree,
    make_folder,
    not_readable,
    write_errors_as_user_error,
)
from limbeck.core.errors import UserError, one_line
from limbeck.core.unfinished import claim_unfinished, is_unfinished


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


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path` that takes its place in one step when the block ends.

    What else lies in the folder at `path` is in the new one as well. Where the system cannot exchange two folders, the
    old one is moved aside first; after a kill just then there is no folder at `path` until the next call. Of several
    callers, one at a time may replace a folder.

    Raises:
        UserError: the disk is full, the place may not be written, or `path` is no folder.
    """
    path = path.resolve() if path.is_symlink() and path.exists() else path
    make_folder(path.parent)
    with write_errors_as_user_error(path):
        _end_replacement(path)
        with claim_unfinished(path, "folder") as unfinished:
            yield unfinished
            if path.exists():
                _copy_missing(path, unfinished)
            fsync_tree(unfinished)
            if not path.exists():
                os.replace(unfinished, path)
            elif not exchange(unfinished, path):
                os.replace(path, _aside(path))
                os.replace(unfinished, path)
                _end_replacement(path)
            fsync(path.parent)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def _end_replacement(path: Path) -> None:
    """Give the old folder its name back if nothing took its place, or else remove it."""
    old = _aside(path)
    if old.is_dir() and not path.exists():
        os.replace(old, path)
    elif old.is_dir():
        shutil.rmtree(old)


def _copy_missing(source: Path, target: Path) -> None:
    """Copy the files and folders of `source` that `target` does not have, unless they are unfinished."""
    for entry in source.iterdir():
        copy = target / entry.name
        if copy.exists() or is_unfinished(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, copy, symlinks=True)
        else:
            shutil.copy2(entry, copy, follow_symlinks=False)


def check_ours(path: Path, marks: bytes, kind: str) -> None:
    """Raise UserError where `path` exists and is no file that begins with `marks`: it is not ours to replace."""
    try:
        with path.open("rb") as file:
            ours = file.read(len(marks)) in (marks, b"")
    except FileNotFoundError:
        return
    except IsADirectoryError:
        ours = False
    except OSError as error:
        raise not_readable(path, error) from error
    if not ours:
        raise UserError(f"'{path}' exists and is no {kind} of Limbeck's: choose another place", code="not-ours")


def check_new(path: Path) -> None:
    """Raise UserError unless a file can be written to `path`, where nothing may be: it could have been edited."""
    check_writable(path.absolute().parent)
    if os.path.lexists(path):
        raise UserError(f"'{path}' exists and is not overwritten: choose another name with --out", code="out-exists")


def read_json(path: Path, remedy: str = "") -> Any:
    """Return the content of a JSON file; raise UserError where it cannot be read, with `remedy` as the way out."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise not_readable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"'{path}' is not valid JSON ({one_line(error)}){remedy and ': ' + remedy}", code="not-json"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as an indented JSON file that appears whole."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
