"""What every kind of source is turned into: rows to decode, in an order that never changes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from limbeck.data.decode import Content
from limbeck.data.findings import Finding

SAMPLE = 256  # rows looked at to choose the size of a store


class Item(NamedTuple):
    """One row before decoding: where it came from, what is there, its label (-1: none), what its place is odd for."""

    path: str
    content: Content
    label: int = -1
    findings: tuple[Finding, ...] = ()


class FileState(NamedTuple):
    """A file of a source: its path, bytes and time of change in nanoseconds; -1 twice for a broken link."""

    path: str
    bytes: int
    modified: int


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A source of images. `items` starts from the first row at each call."""

    name: str
    items: Callable[[], Iterator[Item]]
    count: int | None  # None where only reading to the end would tell
    label_names: list[str] = field(default_factory=list)
    ignored: Sequence[str] = ()  # paths of files that are not images, by their names
    fingerprint: str | None = None  # changes when the source does; None where nothing but reading it all would tell
    files: Callable[[], Iterator[FileState]] = lambda: iter(())  # what the fingerprint is made of
    spread: Callable[[int], Iterator[Item]] | None = None  # every n-th item, where skipping the others costs little

    def sample(self) -> Iterator[Item]:
        """About `SAMPLE` items: spread over the whole source where that is cheap, else the first ones."""
        if self.spread is not None and self.count is not None:
            return self.spread(max(1, self.count // SAMPLE))
        return islice(self.items(), SAMPLE)


def fingerprint(parts: Iterable[str]) -> str:
    """A digest of strings in their order."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def file_state(path: str | Path, name: str | None = None) -> FileState:
    """The state of a file, under its path or another name."""
    try:
        state = Path(path).stat()
    except OSError:
        return FileState(name or str(path), -1, -1)
    return FileState(name or str(path), state.st_size, state.st_mtime_ns)


def state_fingerprint(files: Iterable[FileState]) -> str:
    """A digest of the states of files in their order."""
    return fingerprint(f"{file.path} {file.bytes} {file.modified}" for file in files)


def what_changed(before: Iterable[FileState], now: Iterable[FileState]) -> str:
    """`"2 added (a.png, b.png), 1 removed (c.png)"`, empty where nothing did; the order of files says nothing."""
    old, new = ({file.path: file for file in files} for files in (before, now))
    groups = {
        "added": [path for path in new if path not in old],
        "removed": [path for path in old if path not in new],
        "modified": [path for path, file in new.items() if path in old and old[path] != file],
    }
    return ", ".join(f"{len(paths):,} {word} ({first_names(paths)})" for word, paths in groups.items() if paths)


def first_names(paths: Sequence[str], most: int = 3) -> str:
    """The first few of some paths, and how many more there are."""
    more = [f"{len(paths) - most:,} more"] if len(paths) > most else []
    return ", ".join([*paths[:most], *more])
