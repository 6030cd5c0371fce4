"""Temporary files and folders next to what they become.

Each has a name of its own, so no two writers share one, and is locked while its writer lives. What a killed process
left behind is therefore recognized, and removed by the next writer of the same path.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from limbeck.core.errors import UserError

SUFFIX = ".unfinished"
Kind = Literal["file", "folder"]
_LOCKS = sys.platform != "win32"


@contextmanager
def claim_unfinished(path: Path, kind: Kind) -> Iterator[Path]:
    """Yield a new empty file or folder next to `path`, which is removed at the end unless it was renamed."""
    remove_abandoned(path.parent, path.name)
    unfinished, handle = _create(path, kind)
    try:
        yield unfinished
    finally:
        _remove(unfinished)
        if handle is not None:
            os.close(handle)


def remove_abandoned(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left unfinished in `folder`: of the file or folder `name`, or of any."""
    prefix = "." if name == "*" else f".{name}."
    with suppress(OSError):
        for found in os.scandir(folder):
            if found.name.startswith(prefix) and is_unfinished(found.name):
                _remove_if_abandoned(Path(found.path))


def is_unfinished(name: str) -> bool:
    """Return whether a name has the form `.NAME.0123abcd.unfinished`."""
    word = name.removesuffix(SUFFIX).rpartition(".")[2]
    return name.endswith(SUFFIX) and len(word) == 8 and all(letter in "0123456789abcdef" for letter in word)


def finished_path(path: Path) -> Path:
    """Return the path that an unfinished file or folder, or something in one, will have in the end."""
    parts = [part[1:].rsplit(".", 2)[0] if is_unfinished(part) else part for part in path.parts]
    return Path(*parts)


def _create(path: Path, kind: Kind) -> tuple[Path, int | None]:
    for _ in range(100):
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
        try:
            unfinished.mkdir() if kind == "folder" else unfinished.touch(exist_ok=False)
        except FileExistsError:
            continue  # the name is taken
        except FileNotFoundError as error:  # the folder is not there, or takes no files, as /proc
            reason = os.strerror(error.errno or 0).lower()
            raise UserError(
                f"'{path}' cannot be written ({reason}): choose another path", code="not-writable"
            ) from error
        with suppress(FileNotFoundError):  # another process took the new file for an abandoned one
            return unfinished, _lock(unfinished)
    raise UserError(f"'{path}' cannot be written: no temporary name next to it is free", code="not-writable")


def _lock(path: Path) -> int | None:
    """Lock a file or folder; None where the file system has no locks. FileNotFoundError: it is gone, or another's."""
    if not _LOCKS:
        return None
    import fcntl

    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise FileNotFoundError(path) from error
        return None
    if not path.exists():
        os.close(handle)
        raise FileNotFoundError(path)
    return handle


def _remove_if_abandoned(path: Path) -> None:
    """Remove an unfinished file or folder, unless its writer may still be running."""
    with suppress(OSError):
        handle = _lock(path)
        if handle is not None:
            _remove(path)
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
