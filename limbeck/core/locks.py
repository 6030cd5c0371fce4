"""Locks between processes, which the operating system releases when a process ends in any way."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from limbeck.core.disk import make_folder, not_writable, write_errors_as_user_error
from limbeck.core.errors import UserError

logger = logging.getLogger(__name__)

LOCK = ".lock"


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Create `folder` and hold its lock; where the block is refused before it writes, no new folder stays behind.

    Raises:
        UserError: another process holds the lock, or the folder is not writable.
    """
    created = not folder.exists()
    make_folder(folder)
    try:
        lock = FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"another process is writing to '{folder}': wait until it ends, or stop it", code="folder-locked"
        ) from error
    except OSError as error:
        raise not_writable(folder, error) from error
    with lock:
        try:
            yield
        except UserError:
            if created:
                _remove_empty(folder)
            raise


def _remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock."""
    if os.listdir(folder) == [LOCK]:
        (folder / LOCK).unlink()
        folder.rmdir()


@contextmanager
def wait_for_lock(out: Path) -> Iterator[None]:
    """Hold the lock of the file or folder `out`, waiting for a process that holds it.

    Where the block is refused and there is no `out`, the file of the lock does not stay behind.

    Raises:
        UserError: the place may not be written, now or in the block, or the disk is full.
    """
    make_folder(out.parent)
    file = out.with_name(f".{out.name}.lock")
    with _waiting(file, out):
        try:
            with write_errors_as_user_error(out):
                yield
        except UserError:
            if not os.path.lexists(out):
                with suppress(OSError):  # a system that removes no open file
                    file.unlink(missing_ok=True)
            raise


@contextmanager
def wait_for_folder(folder: Path) -> Iterator[None]:
    """Create `folder` and hold its lock, waiting for a process that holds it; errors as in `wait_for_lock`."""
    make_folder(folder)
    with _waiting(folder / LOCK, folder), write_errors_as_user_error(folder):
        yield


@contextmanager
def _waiting(file: Path, out: Path) -> Iterator[None]:
    lock = FileLock(file)
    try:
        while not _acquired(lock, file, out):
            lock.release()
    except OSError as error:
        raise not_writable(out, error) from error
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock, file: Path, out: Path) -> bool:
    """Acquire a lock, and return whether its file is still the one that others find, and was not removed meanwhile."""
    file.touch()
    before = _inode(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info("waiting for another process that is building '%s'", out)
        lock.acquire()
    return before is not None and _inode(file) == before


def _inode(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of `folder` (see `exclusive_lock`); nothing is created."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(folder / LOCK).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # a folder of somebody else
        return False
