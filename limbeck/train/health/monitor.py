"""Watches the health of a run: warns, stops it in time, and keeps the last healthy checkpoint."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from limbeck.core.files import atomic_write
from limbeck.core.run_folder import CHECKPOINT, HEALTH, HEALTHY
from limbeck.train.health.read import HealthReader
from limbeck.train.health.rules import Finding, Reading, all_is_well, collapsed, diagnose
from limbeck.train.log import Log


class HealthMonitor:
    """Of one run, in the process that writes.

    Args:
        examiner: takes the readings.
        run: folder of the run; readings of an earlier part are taken from its log.
        judged: steps before the first reading that counts; networks start close to a collapse, and warm up.
        log: where to say what is wrong.
    """

    def __init__(self, examiner: HealthReader, run: Path, judged: int, log: Log) -> None:
        self.examiner, self.run, self.judged, self.log = examiner, run, judged, log
        self.readings: list[Reading] = [row for row in log.rows() if "embedding_rank" in row and row["step"] >= judged]
        self._found = self._diagnose(self.readings)

    def read(self, step: int, row: Mapping[str, float]) -> dict[str, float]:
        """A reading after `step` steps, for the log; says what is wrong that was not before."""
        numbers = self.examiner.read()
        if step >= self.judged:
            self.readings.append({"step": step, **row, **numbers})
            known = {finding.name for finding in self._found}
            self._found = self._diagnose(self.readings)
            for finding in self._found:
                if finding.name not in known:
                    self.log.say(f"warning: {finding.sentence}")
        return numbers

    def collapse(self) -> str | None:
        """Why the run has to end, if it has to; the checkpoint is then the last healthy one."""
        fatal = next((finding for finding in self._found if finding.stops), None)
        if fatal is None:
            return None
        if (self.run / HEALTHY).exists():
            os.replace(self.run / HEALTHY, self.run / CHECKPOINT)
        self._write()
        return (
            f"{fatal.sentence}. Stopped; {self.run / CHECKPOINT} is the last healthy one, and "
            f"`limbeck resume {self.run} --no-stop-on-collapse` goes on from there regardless"
        )

    def keep(self, step: int) -> None:
        """Before a checkpoint is written: that of a collapsed run must not replace the last healthy one."""
        if step < self.judged or not collapsed(self._now(step)):
            (self.run / HEALTHY).unlink(missing_ok=True)
        elif not (self.run / HEALTHY).exists():
            with atomic_write(self.run / HEALTHY) as path:
                shutil.copyfile(self.run / CHECKPOINT, path)

    def _now(self, step: int) -> Reading:
        known = self.readings and self.readings[-1]["step"] == step
        return self.readings[-1] if known else self.examiner.read()

    def conclude(self) -> None:
        """Says at the end of a run how it went."""
        self.log.say(self._write())

    def _diagnose(self, readings: list[Reading]) -> list[Finding]:
        return diagnose(readings, self.examiner.of, self.examiner.method.collapse_hint)

    def _write(self) -> str:
        """Writes health.json, and returns its sentence."""
        wrong = " ".join(f"{finding.sentence}." for finding in self._found)
        sentence = wrong or all_is_well(self.readings, self.examiner.of)
        last = self.readings[-1]
        found = {"healthy": not wrong and not collapsed(last), "step": last["step"], "sentence": sentence}
        with atomic_write(self.run / HEALTH) as path:
            path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return sentence
