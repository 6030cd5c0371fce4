"""Monitor the health of a run: warn, stop it in time, and preserve the last healthy checkpoint."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.core.files import atomic_write
from limbeck.core.run_folder import CHECKPOINT, HEALTH, HEALTHY
from limbeck.train.health.read import HealthReader
from limbeck.train.health.rules import HealthIssue, HealthReading, collapsed, diagnose, healthy_summary, undiagnosed

logger = logging.getLogger(__name__)


class HealthMonitor:
    """Monitors one run, in the one process that writes.

    Args:
        reader: takes the readings.
        run: folder of the run.
        warmup_steps: steps before the first reading that counts; networks start close to a collapse, and warm up.
        rows: rows of metrics.csv from an earlier part of the run.
    """

    def __init__(
        self, reader: HealthReader, run: Path, warmup_steps: int, rows: Sequence[dict[str, float]] = ()
    ) -> None:
        self.reader, self.run, self.warmup_steps = reader, run, warmup_steps
        counted = [row for row in rows if "embedding_rank" in row and row["step"] >= warmup_steps]
        self.readings: list[HealthReading] = list(counted)
        self._issues = self._diagnose()

    def read(self, step: int, row: Mapping[str, float]) -> dict[str, float]:
        """Take a reading after `step` steps, for metrics.csv; warn of issues that were not there before."""
        values = self.reader.read()
        if step >= self.warmup_steps:
            self.readings.append({"step": step, **row, **values})
            known = {issue.name for issue in self._issues}
            self._issues = self._diagnose()
            for issue in self._issues:
                if issue.name not in known:
                    logger.warning(issue.message)
        return values

    def stop_reason(self) -> str | None:
        """Return why the run must end, if it must; the checkpoint is then the last healthy one."""
        fatal = next((issue for issue in self._issues if issue.stops_run), None)
        if fatal is None:
            return None
        if (self.run / HEALTHY).exists():
            os.replace(self.run / HEALTHY, self.run / CHECKPOINT)
        self._write_verdict()
        return (
            f"{fatal.message}. The run is stopped, and {self.run / CHECKPOINT} is the last healthy checkpoint; "
            f"`limbeck resume {self.run} --no-stop-on-collapse` continues from there in any case"
        )

    def before_checkpoint(self, step: int) -> None:
        """Preserve the last healthy checkpoint, which that of a collapsed run is about to replace."""
        if step < self.warmup_steps or not collapsed(self._current(step)):
            (self.run / HEALTHY).unlink(missing_ok=True)
        elif not (self.run / HEALTHY).exists():
            with atomic_write(self.run / HEALTHY) as path:
                shutil.copyfile(self.run / CHECKPOINT, path)

    def summarize(self) -> None:
        """Log the verdict at the end of the run, and write it to health.json; keep one checkpoint of a sound run."""
        logger.info(self._write_verdict())
        if not any(issue.stops_run for issue in self._issues):
            (self.run / HEALTHY).unlink(missing_ok=True)

    def _current(self, step: int) -> HealthReading:
        known = self.readings and self.readings[-1]["step"] == step
        return self.readings[-1] if known else self.reader.read()

    def _diagnose(self) -> list[HealthIssue]:
        if not self.readings:
            return []
        if fault := self.reader.data_fault:
            message = f"data: {fault}, so there is nothing to learn from; see `limbeck check`, or give other images"
            return [HealthIssue("data", message, stops_run=False)]
        return diagnose(self.readings, self.reader.max_rank, self.reader.method.collapse_hint)

    def _write_verdict(self) -> str:
        issues = " ".join(f"{issue.message}." for issue in self._issues)
        sentence = issues or healthy_summary(self.readings, self.reader.max_rank)
        last = self.readings[-1]
        healthy = None if not issues and undiagnosed(self.readings, self.reader.max_rank) else not issues
        verdict = {"healthy": healthy, "step": int(last["step"]), "sentence": sentence}
        with atomic_write(self.run / HEALTH) as path:
            path.write_text(json.dumps(verdict, indent=2) + "\n", encoding="utf-8")
        return sentence
