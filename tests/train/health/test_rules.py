"""What readings show: thresholds from both sides, streaks, and nothing for a healthy run."""

import math
from pathlib import Path

import pytest

from limbeck.train.health.rules import HEALTH_CHECKS, PATIENCE, diagnose, healthy_summary, undiagnosed

GOOD = {
    "step": 200.0,
    "grad_norm": 1.0,
    "effective_rank": 20.0,
    "embedding_rank": 30.0,
    "embedding_std": 0.9,
    "alignment": 0.3,
    "uniformity": -2.0,
    "dead_units": 0.0,
    "ema_distance": 0.2,
    "weight_norm": 50.0,
    "weight_hash": 1.0,
}


def readings(count: int, **last: float) -> list[dict[str, float]]:
    """Return a healthy reading, then `count` readings with the values of `last`."""
    steps = range(400, 400 + 200 * count, 200)
    return [GOOD, *(GOOD | {"step": float(step), "weight_hash": 1.0 + step} | last for step in steps)]


def agreement(share: float) -> dict[str, float]:
    """Return that of a student with 1,001 held-out images: chance is 1 %, and its standard error 0.31 %."""
    return {"neighbor_agreement": share, "neighbor_agreement_chance": 0.01}


@pytest.mark.parametrize(
    ("name", "sick", "well", "value"),
    [
        ("representation collapse", {"embedding_rank": 2.9}, {"embedding_rank": 3.0}, "2.9 of at most 512"),
        ("representation collapse", {"embedding_std": 0.09}, {"embedding_std": 0.1}, "0.090"),
        ("representation collapse", {"embedding_rank": math.nan}, {"embedding_rank": 3.5}, "nan of at most 512"),
        ("frozen weights", {"weight_hash": 1.0}, {"weight_hash": 2.0}, "since step 400"),
        ("vanishing gradient", {"grad_norm": 0.0}, {"grad_norm": 1e-5}, "0.0e+00 since step 400"),
        ("dead units", {"dead_units": 0.6}, {"dead_units": 0.5}, "60%"),
        ("EMA divergence", {"ema_distance": 1.5}, {"ema_distance": 1.0}, "1.50 of at most 4"),
        ("teacher not followed", agreement(0.016), agreement(0.017), "1.6%"),
    ],
)
def test_each_check_has_its_threshold(name: str, sick: dict[str, float], well: dict[str, float], value: str) -> None:
    assert diagnose(readings(1, **well), 512, "eat fruit") == []
    (issue,) = diagnose(readings(1, **sick), 512, "eat fruit")
    assert issue.name == name
    assert value in issue.message
    assert ("; try: eat fruit" in issue.message) == (name == "representation collapse")
    assert not issue.stops_run


def test_too_few_images_show_nothing_about_a_teacher() -> None:
    few = {"neighbor_agreement": 0.9, "neighbor_agreement_chance": 10 / 11}  # of 12 images
    assert diagnose(readings(1, **few), 512, "eat fruit") == []


def test_the_thresholds_are_those_of_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "health.md").read_text(encoding="utf-8")
    assert [check.name for check in HEALTH_CHECKS if check.name not in page] == []


def test_only_a_collapse_that_lasts_stops_a_run() -> None:
    assert not diagnose(readings(PATIENCE - 1, embedding_std=0.01), 512, "")[0].stops_run
    assert diagnose(readings(PATIENCE, embedding_std=0.01), 512, "")[0].stops_run
    assert not diagnose(readings(PATIENCE + 1, dead_units=0.9), 512, "")[0].stops_run


def test_a_single_series_is_no_collapse_and_is_not_called_healthy() -> None:
    one = readings(PATIENCE, embedding_rank=1.0, embedding_std=0.0, dead_units=1.0)
    assert diagnose(one, 1, "") == []
    assert {issue.name for issue in diagnose(one, 3, "")} == {"representation collapse", "dead units"}
    assert not healthy_summary(one, 1).startswith("healthy")
    assert undiagnosed(one, 1)
    assert not undiagnosed(readings(PATIENCE), 3)
    assert "--window" in healthy_summary(one, 1)


def test_since_is_the_first_reading_of_the_last_streak() -> None:
    row = [*readings(2, embedding_std=0.01), GOOD | {"step": 800.0, "weight_hash": 9.0}, *readings(0)]
    row += [row[-2] | {"step": step, "embedding_std": 0.02} for step in (1000.0, 1200.0)]
    (issue,) = diagnose(row, 512, "")
    assert "since step 1,000" in issue.message


def test_without_ema_encoder_and_without_reading_there_is_no_issue() -> None:
    assert diagnose([{k: v for k, v in GOOD.items() if k != "ema_distance"}], 512, "") == []
    assert diagnose([], 512, "") == []


def test_a_healthy_run_gets_one_sentence() -> None:
    summary = healthy_summary(readings(2), 512)
    assert summary.startswith("healthy: ")
    assert [
        value for value in ("30.0 of at most 512", "0.90", "0% dead units", "3 readings") if value not in summary
    ] == []


def test_a_single_reading_shows_no_collapse() -> None:
    alone = [GOOD | {"embedding_std": 0.01}]
    assert diagnose(alone, 512, "") == []
    assert healthy_summary(alone, 512).startswith("too short to diagnose: ")
    assert undiagnosed(alone, 512)
    assert healthy_summary([GOOD], 512).startswith("healthy: ")
