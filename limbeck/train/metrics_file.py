"""metrics.csv: one row per logged step, complete and in order however often the run is killed and resumed."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from limbeck.core.disk import is_refusal, not_readable, write_errors_as_user_error
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write


class MetricsFile:
    """A CSV file to which rows are appended; a column that appears late (`knn`) stays empty in the rows before.

    Of an earlier part of the run, rows up to `last_step` remain; later ones and an incomplete last one are dropped.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        self.path = path
        self._columns: list[str] = []
        if path.exists():
            self._rewrite(self._read_until(last_step))

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row, which has the column `step`."""
        new = [column for column in row if column not in self._columns]
        if new:
            rows = self._read()
            self._columns += new
            self._rewrite(rows)
        with write_errors_as_user_error(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)
            file.flush()
            os.fsync(file.fileno())  # no checkpoint may outlive, in a power cut, the rows before it

    def rows(self) -> list[dict[str, float]]:
        """Return the content of the file, without empty cells."""
        return [{name: float(text) for name, text in row.items() if text} for row in self._read()]

    def _read_until(self, last_step: int) -> list[dict[str, str]]:
        """Read the columns, and return the complete rows up to a step; UserError where there are none to be read."""
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or [])
                if self._columns and "step" not in self._columns:
                    raise KeyError("step")
                return [row for row in reader if None not in row.values() and int(row["step"]) <= last_step]
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            if is_refusal(error):
                raise not_readable(self.path, error) from error
            raise UserError(
                f"'{self.path}' is damaged: it has no rows with a `step` ({one_line(error)}); move it away to resume "
                "without the earlier rows",
                code="damaged-metrics",
            ) from error

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with atomic_write(self.path) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
