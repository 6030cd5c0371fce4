"""Progress on stderr: a bar where it is a terminal, wiped when the work is done; elsewhere a line every 30 seconds."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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

from limbeck.core.text import format_duration

logger = logging.getLogger(__name__)
T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0
SPEED_WINDOW = 300.0  # seconds over which the bar averages: a step of training may take a minute


class Bar:
    """Progress that is shown; see `progress_bar`."""

    def __init__(self, bar: Progress, task: TaskID, lines: "ProgressLines") -> None:
        self._bar, self._task, self._lines = bar, task, lines

    def advance(self, steps: int = 1) -> None:
        """Move forward by `steps`."""
        self._bar.advance(self._task, steps)
        self._lines.done += steps

    @property
    def done(self) -> int:
        """Steps so far."""
        return self._lines.done

    def describe(self, description: str) -> None:
        """Replace the text in front of the bar."""
        self._bar.update(self._task, description=description)
        self._lines.description = description


class ProgressLines:
    """The state of a work as a line of text, with speed and time left."""

    def __init__(
        self, total: int | None, description: str, unit: str, done: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.description, self.unit, self.done = total, description, unit, done
        self._first, self._clock, self._start = done, clock, clock()

    def line(self) -> str:
        """Return the line, such as `"test images: 512/2,000 images, 41 images/s, 36 s left"`."""
        elapsed, taken = self._clock() - self._start, self.done - self._first
        counts = f"{self.done:,}{f'/{self.total:,}' if self.total else ''} {self.unit}".rstrip()
        parts = [counts, format_speed(taken, elapsed, self.unit) if taken else f"{format_duration(elapsed)} so far"]
        if taken and self.total:
            parts.append(f"{format_duration(elapsed / taken * (self.total - self.done))} left")
        return (f"{self.description}: " if self.description else "") + ", ".join(parts)


def format_speed(count: float, seconds: float, unit: str) -> str:
    """Return a speed: `"41 images/s"`, `"0.5 steps/s"`, and below one in ten seconds `"14 s per step"`."""
    rate = count / max(seconds, 1e-9)
    if rate < 0.1:
        return f"{format_duration(1 / max(rate, 1e-9))} per {unit.removesuffix('s') or 'step'}"
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"


@contextmanager
def progress_bar(
    total: int | None, description: str = "", *, unit: str = "steps", completed: int = 0, hidden: bool = False
) -> Iterator[Bar]:
    """Show the progress of some work, with its speed and the time left.

    Args:
        total: steps of the whole work; None where they are not known.
        description: what the work is.
        unit: what a step is, in the plural, such as "images".
        completed: steps that are done already.
        hidden: show nothing.
    """
    console, lines = Console(stderr=True), ProgressLines(total, description, unit, completed)
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        _Speed(unit),
    ]
    off = hidden or not console.is_terminal
    window = {"speed_estimate_period": SPEED_WINDOW}
    with (
        Progress(*columns, console=console, disable=off, transient=True, **window) as bar,  # type: ignore[arg-type]
        _every(SECONDS_BETWEEN_LINES, lambda: logger.info("%s", lines.line()), off=hidden or console.is_terminal),
    ):
        yield Bar(bar, bar.add_task(description, total=total, completed=completed), lines)


def progress(
    items: Sequence[T], description: str, *, unit: str = "steps", size: Callable[[T], int] | None = None
) -> Iterator[T]:
    """Iterate over `items` under a bar; an empty `description` shows none. `size` counts the units of an item."""
    total = sum(map(size, items)) if size else len(items)
    with progress_bar(total, description, unit=unit, hidden=not description) as bar:
        for item in items:
            yield item
            bar.advance(size(item) if size else 1)


@contextmanager
def _every(seconds: float, call: Callable[[], None], *, off: bool) -> Iterator[None]:
    """Call a function again and again while the block runs, also while one step of it takes long."""
    if off:
        yield
        return
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            call()

    thread = threading.Thread(target=repeat, name="limbeck-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(format_speed(speed, 1, self._unit) if speed else "")
