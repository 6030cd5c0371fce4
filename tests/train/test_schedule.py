"""What is due after which step."""

import pytest

from limbeck.train.config import TrainConfig
from limbeck.train.schedule import Due, Schedule


def steps(name: str, cfg: TrainConfig, steps_per_epoch: int, total: int, evaluates: bool = True) -> list[int]:
    """Return the steps after which `name` is due."""
    schedule = Schedule(cfg, steps_per_epoch, total, evaluates)
    return [step for step in range(1, total + 1) if getattr(schedule.after(step), name)]


CFG = TrainConfig(log_every_steps=3, health_every_steps=7, eval_every_epochs=2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log", [3, 5, 6, 7, 9, 10, 12, 13]),
        ("health", [7, 13]),
        ("evaluation", [10, 13]),
        ("epoch_end", [5, 10]),
    ],
)
def test_the_rhythm_of_13_steps_in_epochs_of_5(name: str, expected: list[int]) -> None:
    assert steps(name, CFG, 5, 13) == expected


def test_readings_and_evaluations_are_part_of_a_row() -> None:
    schedule = Schedule(TrainConfig(log_every_steps=1000, health_every_steps=2, eval_every_epochs=1), 3, 9, True)
    rows: list[Due] = [schedule.after(step) for step in range(1, 10)]
    assert all(due.log for due in rows if due.health or due.evaluation)


def test_what_is_switched_off_is_never_due() -> None:
    off = TrainConfig(health_every_steps=0, eval_every_epochs=0)
    assert steps("health", off, 5, 20) == steps("evaluation", off, 5, 20) == []
    assert steps("evaluation", CFG, 5, 20, evaluates=False) == []
