"""How long to train: epochs for a number of images, durations, and steps that fit into one."""

import pytest

from limbeck.train.config import TrainConfig
from limbeck.train.length import auto_epochs, parse_duration, steps_within
from tests.helpers.errors import raises


def test_fewer_images_get_more_epochs_and_fewer_steps() -> None:
    sizes = (200, 1_000, 10_000, 100_000, 1_300_000)
    assert [auto_epochs(images, "cuda") for images in sizes] == [1000, 1000, 316, 100, 100]
    assert [auto_epochs(images, "cpu") for images in sizes] == [100, 100, 32, 10, 10]
    visits = [images * auto_epochs(images, "cuda") for images in sizes]
    assert visits == sorted(visits)


def test_epochs_are_a_number_before_they_are_counted() -> None:
    cfg = TrainConfig().with_epochs(10_000, "cuda")
    assert cfg.total_steps(39) == 316 * 39
    assert TrainConfig(epochs=3).with_epochs(10_000, "cuda").total_steps(39) == 3 * 39
    with pytest.raises(AssertionError):
        TrainConfig().total_steps(39)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("90s", 90), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1 h 1 s", 3601)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "soon", "-5m", "0s", "5m3h", "5 days", "nanh", "inf"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with raises("bad-time", f"'{text}'", "30m"):
        parse_duration(text)


def test_steps_fit_into_a_time_with_room_for_evaluations() -> None:
    assert steps_within(1000, 2.0) == 475
    assert steps_within(43, 2.0) == 20


def test_a_time_in_which_hardly_a_step_fits_is_refused_with_one_that_would_do() -> None:
    with raises("time-too-short", "1.0 s", "2.0 s", "43s"):
        steps_within(1, 2.0)
    assert steps_within(43, 2.0)


@pytest.mark.parametrize("epochs", [0, -1, float("nan"), float("inf")])
def test_impossible_epochs_are_refused(epochs: float) -> None:
    with raises("out-of-range", epochs):
        TrainConfig(epochs=epochs)
