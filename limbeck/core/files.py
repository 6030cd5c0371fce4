"""Files that appear whole or not at all, whatever ends the process; locks; and one sentence for a disk that is full."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from limbeck.core.errors import UserError

LOCK = ".lock"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A neighbour of `path` to write to, which takes its place when the block ends, whole and on the disk.

    Whatever ends the block, or the process, before that leaves at `path` what was there.

    Raises:
        UserError: the disk is full.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with disk_full_as_user_error(path):
            yield unfinished
            sync(unfinished)
            os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # half a checkpoint would keep the disk full
        raise


@contextmanager
def disk_full_as_user_error(path: Path) -> Iterator[None]:
    """Turns the error of a full disk, a used-up quota or a file beyond the limit into a sentence that names `path`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save raises another one over it
        if isinstance(cause, OSError) and cause.errno in FULL:
            raise UserError(
                f"{path} could not be written ({os.strerror(cause.errno).lower()}) and nothing before it is lost: "
                "make room, then `limbeck resume` a run or repeat any other command"
            ) from error
        raise


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Makes `folder` and holds the right to write into it; its lock is the system's, so that a killed process lets go.

    Raises:
        UserError: another process holds it, or nobody may write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout as error:
        raise UserError(f"another process is writing to {folder}: stop it, or let it end, before you go on") from error
    except OSError as error:
        raise UserError(f"'{folder}' cannot be written: {error.strerror}") from error
    with held:
        yield


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Holds the right to write `out`; another process that wants it waits, and is told so. A killed one lets go."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out.with_name(f".{out.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"waiting for the process that builds {out}", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise UserError(f"'{out}' cannot be written: {error.strerror}") from error
    try:
        with disk_full_as_user_error(out):
            yield
    finally:
        lock.release()


def sync(path: Path) -> None:
    """Waits until the content of a file would survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
