"""A bar on stderr, with the time left."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Sequence[T], description: str) -> Iterable[T]:
    """Iterate over `items` under a bar named `description`, no bar if it is empty; the bar is wiped when done."""
    return track(items, description, console=Console(stderr=True), transient=True, disable=not description)
