"""A bar on stderr, with the time left."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Sequence[T], description: str) -> Iterable[T]:
    """Iterate over `items` under a bar named `description`, wiped when done; none if it is empty or nobody watches."""
    console = Console(stderr=True)
    watched = bool(description) and console.is_terminal
    return track(items, description, console=console, transient=True, disable=not watched)
