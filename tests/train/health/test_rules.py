"""What is said of readings: thresholds from both sides, streaks, and nothing of a healthy run."""

import math

import pytest

from limbeck.train.health.rules import PATIENCE, all_is_well, diagnose

GOOD = {
    "step": 200.0,
    "grad_norm": 1.0,
    "effective_rank": 20.0,
    "embedding_rank": 30.0,
    "deviation": 0.9,
    "alignment": 0.3,
    "uniformity": -2.0,
    "dead_units": 0.0,
    "ema_distance": 0.2,
    "weight_norm": 50.0,
}


def readings(count: int, **last: float) -> list[dict[str, float]]:
    """A good one, then `count` of which all have the values of `last`."""
    steps = range(400, 400 + 200 * count, 200)
    return [GOOD, *(GOOD | {"step": float(step), "weight_norm": 50.0 + step} | last for step in steps)]


@pytest.mark.parametrize(
    ("name", "sick", "well", "said"),
    [
        ("collapsing", {"embedding_rank": 2.9}, {"embedding_rank": 3.0}, "effective rank 2.9 of 512 since step 400"),
        ("collapsing", {"deviation": 0.09}, {"deviation": 0.1}, "embeddings deviate by 0.090"),
        ("collapsing", {"embedding_rank": math.nan}, {"embedding_rank": 3.5}, "effective rank nan of 512"),
        ("standing still", {"weight_norm": 50.0}, {"weight_norm": 50.1}, "not moved since step 400"),
        ("no gradient", {"grad_norm": 0.0}, {"grad_norm": 1e-5}, "gradient is 0.0e+00 since step 400"),
        ("dead units", {"dead_units": 0.6}, {"dead_units": 0.5}, "60% of the encoder's units"),
        ("teacher and student apart", {"ema_distance": 1.5}, {"ema_distance": 1.0}, "1.50 of at most 4"),
    ],
)
def test_each_sign_has_its_threshold(name: str, sick: dict[str, float], well: dict[str, float], said: str) -> None:
    assert diagnose(readings(1, **well), 512, "eat fruit") == []
    (found,) = diagnose(readings(1, **sick), 512, "eat fruit")
    assert found.name == name
    assert said in found.sentence
    assert ("; try: eat fruit" in found.sentence) == (name == "collapsing")
    assert not found.stops


def test_only_a_collapse_that_lasts_stops_a_run() -> None:
    assert not diagnose(readings(PATIENCE - 1, deviation=0.01), 512, "")[0].stops
    assert diagnose(readings(PATIENCE, deviation=0.01), 512, "")[0].stops
    assert not diagnose(readings(PATIENCE + 1, dead_units=0.9), 512, "")[0].stops


def test_since_is_the_first_reading_of_the_last_streak() -> None:
    row = [*readings(2, deviation=0.01), GOOD | {"step": 800.0, "weight_norm": 1.0}, *readings(0)]
    row += [row[-2] | {"step": step, "deviation": 0.02} for step in (1000.0, 1200.0)]
    (found,) = diagnose(row, 512, "")
    assert "since step 1,000" in found.sentence


def test_no_teacher_and_no_reading_are_no_finding() -> None:
    assert diagnose([{k: v for k, v in GOOD.items() if k != "ema_distance"}], 512, "") == []
    assert diagnose([], 512, "") == []


def test_a_healthy_run_gets_one_sentence() -> None:
    said = all_is_well(readings(2), 512)
    assert said.startswith("healthy: effective rank 30.0 of 512, deviation 0.90, 0% dead units at the end; read 3 ")


def test_a_single_reading_tells_no_collapse() -> None:
    alone = [GOOD | {"deviation": 0.01}]
    assert diagnose(alone, 512, "") == []
    assert all_is_well(alone, 512).startswith("too short to judge: effective rank 30.0 of 512")
    assert all_is_well([GOOD], 512).startswith("healthy: ")
