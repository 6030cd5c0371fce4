"""The log of a run while it trains: metrics.csv, experiment trackers, and progress on stderr."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from limbeck.core.config import Json
from limbeck.core.progress import progress_bar
from limbeck.core.run_folder import METRICS
from limbeck.train.config import TrainConfig
from limbeck.train.loggers import RunLoggers
from limbeck.train.metrics_file import MetricsFile

logger = logging.getLogger(__name__)


class RunLog:
    """Metrics, trackers and progress of one run, in the one process that writes.

    Args:
        run: folder of the run.
        start: optimizer steps taken before.
        total_steps: optimizer steps of the whole run.
        cfg: names the trackers, and the images of a step.
        config: everything that defines the run, for the trackers.
        unit: what the rows of a batch are called.
    """

    def __init__(
        self, run: Path, start: int, total_steps: int, cfg: TrainConfig, config: Json = None, unit: str = "images"
    ) -> None:
        self._metrics = MetricsFile(run / METRICS, last_step=start)
        self._loggers = RunLoggers(cfg.loggers, run, start, config)
        self._bar_shown = progress_bar(total_steps, "training", unit="steps", completed=start)
        self._total_steps, self._batch_size, self._unit = total_steps, cfg.batch_size, unit
        self._row_time = time.monotonic()
        self._row_step, self._wait_seconds = start, 0.0

    def __enter__(self) -> Self:
        self._bar = self._bar_shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # of a terminal that is gone
            self._bar_shown.__exit__(kind, error, trace)
        self._loggers.close(completed=error is None)

    def rows(self) -> list[dict[str, float]]:
        """Return the rows of metrics.csv, without empty cells."""
        return self._metrics.rows()

    def speed(self, step: int, wait_seconds: float) -> dict[str, float]:
        """Return the images per second, and the fraction of the time spent waiting for data, since the last row.

        `wait_seconds` is the time spent waiting for data since the run began.
        """
        elapsed = max(time.monotonic() - self._row_time, 1e-9)
        fraction = (wait_seconds - self._wait_seconds) / elapsed
        self._wait_seconds = wait_seconds
        return {"images_per_second": (step - self._row_step) * self._batch_size / elapsed, "data_wait": fraction}

    def advance(self) -> None:
        """Show that a step was taken."""
        self._bar.advance()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Write the state after `step` optimizer steps: a row of metrics.csv, the trackers, and the progress."""
        self._metrics.add({"step": step, **values})
        self._loggers.log({name: value for name, value in values.items() if name != "weight_hash"}, step)
        self._show(step, values)
        self._row_step, self._row_time = step, time.monotonic()

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        line = (
            f"epoch {values['epoch']:.1f}  loss {values['loss']:.4f}  "
            f"{values['images_per_second']:,.0f} {self._unit}/s  data wait {values['data_wait']:.0%}"
        )
        self._bar.describe(line)
        if step == self._total_steps:
            logger.info("step %d/%d  %s", step, self._total_steps, line)
