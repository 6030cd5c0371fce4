"""Schedules against the arrays that the SDSSL authors' code produced."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.schedule import cosine, warmup_cosine

GOLDEN = np.load(Path(__file__).parent / "golden" / "sdssl_schedules.npz")


@pytest.mark.parametrize(
    ("name", "steps", "warmup_steps"), [("lr_300ep_x5_warm40", 1500, 200), ("lr_4ep_x5_warm1", 20, 5)]
)
def test_learning_rate_equals_the_authors(name: str, steps: int, warmup_steps: int) -> None:
    ours = [warmup_cosine(step, steps, warmup_steps, base=0.0024) for step in range(steps)]
    np.testing.assert_allclose(ours, GOLDEN[name], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [("alpha_300ep_x5_to1.0", 0.0, 1.0), ("alpha_300ep_x5_to0.8", 0.0, 0.8), ("ema_300ep_x5", 0.996, 1.0)],
)
def test_rises_equal_the_authors(name: str, start: float, end: float) -> None:
    ours = [cosine(start, end, step / 1500) for step in range(1500)]
    np.testing.assert_allclose(ours, GOLDEN[name], rtol=1e-12, atol=1e-15)


def test_the_ends_are_exact() -> None:
    assert cosine(0.996, 1.0, 1.0) == 1.0
    assert warmup_cosine(0, 10, 3, base=0.5) == 0.0
    assert warmup_cosine(0, 10, 0, base=0.5) == 0.5
    assert warmup_cosine(0, 10, 1, base=0.5) == 0.0
