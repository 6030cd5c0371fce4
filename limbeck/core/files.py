"""Files that appear whole or not at all, whatever ends the process; locks; JSON; one sentence for a full disk."""

import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from limbeck.core.errors import UserError, one_line

logger = logging.getLogger(__name__)

LOCK = ".lock"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; when the block ends, sync it to the disk and rename it to `path`.

    If an exception or the end of the process comes first, `path` stays as it was.

    Raises:
        UserError: the disk is full.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with disk_full_as_user_error(path):
            yield unfinished
            fsync(unfinished)
            os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # half a checkpoint would keep the disk full
        raise


@contextmanager
def disk_full_as_user_error(path: Path) -> Iterator[None]:
    """Turn the error of a full disk, an exhausted quota or a file-size limit into a UserError that names `path`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save raises a RuntimeError over it
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            raise UserError(
                f"'{path}' could not be written ({os.strerror(cause.errno).lower()}); everything before it is saved: "
                "free some space, then continue a run with `limbeck resume`, or repeat any other command",
                code="disk-full",
            ) from error
        raise


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Create `folder` and hold its lock; the operating system releases the lock of a process that is killed.

    Raises:
        UserError: another process holds the lock, or the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"another process is writing to '{folder}': wait until it ends, or stop it", code="folder-locked"
        ) from error
    except OSError as error:
        raise not_writable(folder, error) from error
    with lock:
        yield


@contextmanager
def wait_for_lock(out: Path) -> Iterator[None]:
    """Hold the lock of the file or folder `out`, waiting for a process that holds it; a full disk is a UserError."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out.with_name(f".{out.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.info("waiting for another process that is building '%s'", out)
            lock.acquire()
    except OSError as error:
        raise not_writable(out, error) from error
    try:
        with disk_full_as_user_error(out):
            yield
    finally:
        lock.release()


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents; raise UserError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(folder, error) from error


def not_writable(path: Path, error: OSError) -> UserError:
    """Return the UserError for a path that the operating system refuses to write."""
    return UserError(
        f"'{path}' cannot be written ({error.strerror}): choose another path, or change its permissions",
        code="not-writable",
    )


def fsync(path: Path) -> None:
    """Wait until the content of a file would survive a power failure."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read_json(path: Path, remedy: str = "") -> Any:
    """Return the content of a JSON file; raise UserError where it cannot be read, with `remedy` as the way out."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"'{path}' is not valid JSON ({one_line(error)}){remedy and ': ' + remedy}", code="not-json"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as an indented JSON file that appears whole."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
