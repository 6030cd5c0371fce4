"""Progress bars on stderr, where somebody watches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn, track
from rich.text import Text

T = TypeVar("T")


def progress(items: Sequence[T], description: str) -> Iterable[T]:
    """Iterate over `items` under a bar named `description`, wiped when done; none if it is empty or nobody watches."""
    console = Console(stderr=True)
    watched = bool(description) and console.is_terminal
    return track(items, description, console=console, transient=True, disable=not watched)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} images/s")


@contextmanager
def progress_bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with rows/s and the time left, where stderr is a terminal; gives what advances it."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda rows: bar.advance(task, rows)
