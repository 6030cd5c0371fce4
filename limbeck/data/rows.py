"""What every kind of source is turned into: rows to decode, in an order that never changes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from limbeck.data.decode import Content

SAMPLE = 256  # rows looked at to choose the size of a store


class Item(NamedTuple):
    """One row before decoding: where it came from, what is there, and its label (-1: none)."""

    path: str
    content: Content
    label: int = -1


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A source of images. `items` starts from the first row at each call."""

    name: str
    items: Callable[[], Iterator[Item]]
    count: int | None  # None where only reading to the end would tell
    label_names: list[str] = field(default_factory=list)
    ignored: int = 0  # files that are not images
    fingerprint: str | None = None  # changes when the source does; None where nothing but reading it all would tell
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


def file_state(path: str | Path) -> str:
    """Path, bytes and time of change of a file; the path alone where it is a broken link."""
    try:
        state = Path(path).stat()
    except OSError:
        return str(path)
    return f"{path} {state.st_size} {state.st_mtime_ns}"
