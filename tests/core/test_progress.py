"""Progress without a terminal: lines with speed and time left, also while one step takes long."""

import threading

import pytest

from limbeck.core import progress
from limbeck.core.progress import ProgressLines, format_speed, progress_bar


def test_a_line_has_the_count_the_speed_and_the_time_left() -> None:
    times = iter([0.0, 12.0, 12.0])
    lines = ProgressLines(2000, "test images", "images", 100, times.__next__)
    assert lines.line() == "test images: 100/2,000 images, 12 s so far"
    lines.done += 600
    assert lines.line() == "test images: 700/2,000 images, 50 images/s, 26 s left"


def test_without_a_total_there_is_no_time_left() -> None:
    times = iter([0.0, 4.0])
    lines = ProgressLines(None, "", "images", 0, times.__next__)
    lines.done = 2
    assert lines.line() == "2 images, 0.5 images/s"


def test_slow_steps_have_a_duration() -> None:
    assert format_speed(2, 28, "steps") == "14 s per step"
    assert format_speed(1200, 1, "images") == "1,200 images/s"


def test_a_line_comes_while_a_step_takes_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "limbeck")
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    logged = threading.Event()
    monkeypatch.setattr(progress.logger, "info", lambda *message: logged.set())
    with progress_bar(3, "training", unit="steps"):
        assert logged.wait(60)
    assert not [thread for thread in threading.enumerate() if thread.name == "limbeck-progress"]


def test_what_is_hidden_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.core.progress.threading.Thread", None)
    assert list(progress.progress([1, 2], "")) == [1, 2]


def test_items_count_their_units(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ProgressLines] = []
    lines = ProgressLines

    def make(*arguments: object) -> ProgressLines:
        made.append(lines(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(progress, "ProgressLines", make)
    list(progress.progress([range(4), range(3)], "rows", unit="rows", size=len))
    assert (made[0].total, made[0].done) == (7, 7)
