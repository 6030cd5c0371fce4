"""Progress bars on stderr, shown where it is a terminal and wiped when the work is done."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")


class Bar:
    """A progress bar that is on the screen; see `progress_bar`."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, steps: int = 1) -> None:
        """Move the bar forward by `steps`."""
        self._bar.advance(self._task, steps)

    def describe(self, description: str) -> None:
        """Replace the text in front of the bar."""
        self._bar.update(self._task, description=description)


@contextmanager
def progress_bar(
    total: int | None, description: str = "", *, unit: str = "", completed: int = 0, hidden: bool = False
) -> Iterator[Bar]:
    """Show a bar with the number of steps, the time left and, where `unit` is given, the steps per second.

    Args:
        total: steps of the whole work; None where they are not known.
        description: text in front of the bar.
        unit: what a step is, such as "images".
        completed: steps that are done already.
        hidden: show nothing.
    """
    console = Console(stderr=True)
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    speed = [_Speed(unit)] if unit else []
    with Progress(*columns, *speed, console=console, disable=hidden or not console.is_terminal, transient=True) as bar:
        yield Bar(bar, bar.add_task(description, total=total, completed=completed))


def progress(items: Sequence[T], description: str) -> Iterator[T]:
    """Iterate over `items` under a bar; an empty `description` shows none."""
    with progress_bar(len(items), description, hidden=not description) as bar:
        for item in items:
            yield item
            bar.advance()


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} {self._unit}/s")
