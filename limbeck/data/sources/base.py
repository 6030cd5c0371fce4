"""What every kind of source is turned into: rows to decode, in an order that never changes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from limbeck.data.check.issues import Issue
from limbeck.data.decode import Content
from limbeck.data.fingerprint import FileState

SAMPLE = 256  # rows looked at to choose the size of a store


class Item(NamedTuple):
    """One row before decoding: where it came from, what is there, its label (-1: none), what its place is odd for."""

    path: str
    content: Content
    label: int = -1
    issues: tuple[Issue, ...] = ()


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
