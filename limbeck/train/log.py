"""What a run says while it trains: metrics.csv, TensorBoard, and a line of progress on stderr."""

import csv
import os
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from limbeck.core.files import atomic_write, disk_full_as_user_error
from limbeck.core.run_folder import METRICS, TENSORBOARD

PLAIN_SECONDS = 30.0  # between lines when stderr is not a terminal


class Metrics:
    """`metrics.csv`: one row per logged step. A column that turns up late (`knn`) is added, and left empty above.

    Of the rows of an earlier part of the run those up to step `keep` stay; later ones and a torn last one are dropped.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self._columns: list[str] = []
        if path.exists():
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or [])
                rows = [row for row in reader if None not in row.values() and int(row["step"]) <= keep]
            self._rewrite(rows)

    def add(self, row: dict[str, float]) -> None:
        """Appends a row, which has `step` in it."""
        new = [column for column in row if column not in self._columns]
        if new:
            rows = self.rows()
            self._columns += new
            self._rewrite(rows)
        with disk_full_as_user_error(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)
            file.flush()
            os.fsync(file.fileno())  # no checkpoint may outlive, in a power cut, the rows before it

    def rows(self) -> list[dict[str, str]]:
        """What the file holds now."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with atomic_write(self.path) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


class Log:
    """Metrics, TensorBoard and progress of one run, in the one process that writes.

    Args:
        run: folder of the run.
        start, steps: optimiser steps behind, and of the whole run.
        images: per optimiser step.
    """

    def __init__(self, run: Path, start: int, steps: int, images: int) -> None:
        self._metrics = Metrics(run / METRICS, keep=start)
        self._events = run / TENSORBOARD
        self._board = SummaryWriter(str(self._events), purge_step=start + 1)
        self._console = Console(stderr=True)
        self._progress = _progress(self._console)
        self._task = self._progress.add_task("starting", completed=start, total=steps)
        self._start, self._steps, self._images = start, steps, images
        self._began = self._said = self._time = time.monotonic()
        self._step, self._waited = start, 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        with disk_full_as_user_error(self._events):
            self._board.close()

    def say(self, sentence: str) -> None:
        """A line of its own, on stderr."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def rows(self) -> list[dict[str, float]]:
        """What metrics.csv holds, without empty cells."""
        return [{name: float(text) for name, text in row.items() if text} for row in self._metrics.rows()]

    def speed(self, step: int, waited: float) -> dict[str, float]:
        """Images per second, and the share of the time spent waiting for data, since the last record.

        `waited`: seconds spent waiting for data since the run began.
        """
        elapsed = max(time.monotonic() - self._time, 1e-9)
        share = (waited - self._waited) / elapsed
        self._waited = waited
        return {"images_per_second": (step - self._step) * self._images / elapsed, "data_wait": share}

    def record(self, step: int, values: dict[str, float]) -> None:
        """The state after `step` optimiser steps: a row of metrics.csv, the same in TensorBoard, and the progress."""
        self._metrics.add({"step": step, **values})
        with disk_full_as_user_error(self._events):
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        self._show(step, values)
        self._step, self._time = step, time.monotonic()

    def _show(self, step: int, values: dict[str, float]) -> None:
        line = (
            f"epoch {values['epoch']:.1f}  loss {values['loss']:.4f}  "
            f"{values['images_per_second']:,.0f} images/s  data {values['data_wait']:.0%}"
        )
        self._progress.update(self._task, completed=step, description=line)
        now = time.monotonic()
        if not self._console.is_terminal and (now - self._said > PLAIN_SECONDS or step == self._steps):
            self._said = now
            left = (now - self._began) / (step - self._start) * (self._steps - step)
            self.say(f"step {step}/{self._steps}  {line}  {timedelta(seconds=round(left))} left")


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal, refresh_per_second=4)
