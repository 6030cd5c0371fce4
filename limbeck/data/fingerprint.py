"""Detect changes of a source: the states of its files, and a digest of them."""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from limbeck.core.text import first_names
from limbeck.data.address import Address


class FileState(NamedTuple):
    """A file of a source: its path, bytes and time of change in nanoseconds; -1 twice for a broken link."""

    path: str
    bytes: int
    modified: int


def fingerprint(parts: Iterable[str]) -> str:
    """Return the digest of a sequence of strings."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def file_state(path: str | Path | Address, name: str | None = None) -> FileState:
    """Return the state of a file, under its path or another name."""
    if isinstance(path, Address):
        return FileState(name or str(path), *path.state())
    try:
        state = Path(path).stat()
    except OSError:
        return FileState(name or str(path), -1, -1)
    return FileState(name or str(path), state.st_size, state.st_mtime_ns)


def state_fingerprint(files: Iterable[FileState]) -> str:
    """Return the digest of the states of files, in their order."""
    return fingerprint(f"{file.path} {file.bytes} {file.modified}" for file in files)


def what_changed(before: Iterable[FileState], now: Iterable[FileState]) -> str:
    """`"2 added (a.png, b.png), 1 removed (c.png)"`, empty if nothing changed; the order of files does not matter."""
    old, new = ({file.path: file for file in files} for files in (before, now))
    groups = {
        "added": [path for path in new if path not in old],
        "removed": [path for path in old if path not in new],
        "modified": [path for path, file in new.items() if path in old and old[path] != file],
    }
    return ", ".join(f"{len(paths):,} {word} ({first_names(paths)})" for word, paths in groups.items() if paths)
