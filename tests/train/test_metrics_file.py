"""metrics.csv across late columns, resumption and torn lines."""

from pathlib import Path

import pytest

from limbeck.train.metrics_file import MetricsFile


def test_a_late_column_is_empty_above_and_below(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "m.csv", last_step=0)
    metrics.add({"step": 1, "loss": 2.5})
    metrics.add({"step": 2, "loss": 2.0, "knn": 0.5})
    metrics.add({"step": 3, "loss": 1.5})
    assert (tmp_path / "m.csv").read_text().split() == ["step,loss,knn", "1,2.5,", "2,2.0,0.5", "3,1.5,"]


@pytest.mark.parametrize(
    ("last_step", "expected"), [(0, []), (2, ["1,2.5", "2,2.0"]), (9, ["1,2.5", "2,2.0", "3,1.5"])]
)
def test_resuming_drops_the_rows_after_the_checkpoint(tmp_path: Path, last_step: int, expected: list[str]) -> None:
    path = tmp_path / "m.csv"
    path.write_text("step,loss\n1,2.5\n2,2.0\n3,1.5\n")
    MetricsFile(path, last_step).add({"step": 10, "loss": 1.0})
    assert path.read_text().split() == ["step,loss", *expected, "10,1.0"]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("step,loss\n10,2.5\n1")
    MetricsFile(path, last_step=10)
    assert path.read_text().split() == ["step,loss", "10,2.5"]
