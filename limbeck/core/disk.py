"""The disk: errors of the operating system as one sentence, room that is reserved, names that survive a power cut."""

import ctypes
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeGuard

from limbeck.core.errors import UserError
from limbeck.core.text import format_bytes
from limbeck.core.unfinished import finished_path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.ENOTEMPTY, errno.EEXIST, errno.EMLINK, errno.EXDEV),
)


@contextmanager
def write_errors_as_user_error(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk, a quota or a place that may not be written into a UserError that names `path`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = system_error(error)
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            raise disk_full(path, cause) from error
        if isinstance(cause, OSError) and cause.errno in REFUSED and _is_about(cause, path):
            raise not_writable(path, cause) from error
        raise


def system_error(error: BaseException) -> BaseException | None:
    """Return the error of the operating system behind one of torch.save, or the first of shutil's copy of a folder."""
    if isinstance(error, shutil.Error) and (number := re.search(r"\[Errno (\d+)\]", str(error))):
        return OSError(int(number[1]), os.strerror(int(number[1])))
    return error if isinstance(error, OSError) else error.__context__


def _is_about(error: OSError, path: Path) -> bool:
    """Return whether an error names no file, or one that belongs to `path`: others are read, not written."""
    name = str(error.filename or path)
    return str(path) in name or f".{path.name}." in name or name == str(path.parent)


def disk_full(path: Path, error: OSError) -> UserError:
    """Return the UserError for a path that has no room."""
    return UserError(
        f"'{finished_path(path)}' could not be written ({reason(error)}); everything before it is saved: "
        "free some space, then continue a run with `limbeck resume`, or repeat any other command",
        code="disk-full",
    )


def not_writable(path: Path, error: OSError) -> UserError:
    """Return the UserError for a path that cannot be written."""
    return UserError(
        f"'{finished_path(path)}' cannot be written ({reason(error)}): choose another path, or change its permissions",
        code="not-writable",
    )


def not_readable(path: Path, error: OSError) -> UserError:
    """Return the UserError for a path that cannot be read, whatever its content."""
    advice = {errno.ENOENT: "check the name", errno.EISDIR: "give a file"}
    usual = "change its permissions, or see whether its disk is there"
    return UserError(
        f"'{path}' cannot be read ({reason(error)}): {advice.get(error.errno or 0, usual)}", code="not-readable"
    )


def is_refusal(error: BaseException) -> TypeGuard[OSError]:
    """Return whether the operating system denied access to a file that exists, whatever its content."""
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


def reason(error: OSError) -> str:
    """Return the cause of an error in the words of the operating system."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


def room_warning(path: Path, needed: int) -> str:
    """Return a sentence where the disk of `path`, which need not exist yet, lacks the `needed` bytes; else ""."""
    place = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free >= needed:
        return ""
    return (
        f"'{path}' will take {format_bytes(needed)}, and its disk has {format_bytes(free)} left: make room, or choose "
        "another place with --out"
    )


def check_writable(folder: Path) -> None:
    """Raise UserError unless a file can be written in `folder`, or the folder be created; leaves nothing behind."""
    place = folder.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise not_writable(folder, OSError(errno.ENOTDIR, "", str(place)))
    if not os.access(place, os.W_OK | os.X_OK):
        read_only = hasattr(os, "statvfs") and os.statvfs(place).f_flag & os.ST_RDONLY
        raise not_writable(folder, OSError(errno.EROFS if read_only else errno.EACCES, "", str(place)))
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:  # such as that of /proc, where permissions promise what the system refuses
        raise (disk_full if error.errno in DISK_FULL else not_writable)(folder, error) from error


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents; raise UserError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise (disk_full if error.errno in DISK_FULL else not_writable)(folder, error) from error


def reserve(file: IO[Any], size: int) -> None:
    """Give a file `size` bytes of the disk, so that no later write into a memory map can fail; OSError without room."""
    if hasattr(os, "posix_fallocate"):
        with suppress_unsupported():
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
            return
    for start in range(0, size, block := 2**20):  # blocks of zeros, where the file system cannot reserve
        file.write(b"\0" * min(block, size - start))
    file.flush()


@contextmanager
def suppress_unsupported() -> Iterator[None]:
    """Suppress the error of an operation that the system or the file system does not have."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENODEV):
            raise


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two files or folders in one step; return whether the system can do that."""
    library: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(first), os.fsencode(second)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(-100, names[0], -100, names[1], 2)  # AT_FDCWD, RENAME_EXCHANGE
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, 2)  # RENAME_SWAP
    else:
        return False
    if failed:
        with suppress_unsupported():
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(second))
    return not failed


def fsync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, would survive a power failure."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress_unsupported():
            os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(folder: Path) -> None:
    """Wait until every file in `folder`, and every name, would survive a power failure."""
    for place, _, files in os.walk(folder):
        for name in files:
            fsync(Path(place, name))
        fsync(Path(place))
