"""Schedules against the arrays that the SDSSL and the W-MSE authors' code produced."""

import numpy as np
import pytest

from limbeck.core.schedules import cosine, warmup_cosine, warmup_multistep
from tests.helpers.golden import GOLDEN

SDSSL = np.load(GOLDEN / "sdssl_schedules.npz")
WMSE = np.load(GOLDEN / "wmse_lr_schedule.npz")


@pytest.mark.parametrize(
    ("name", "steps", "warmup_steps"), [("lr_300ep_x5_warm40", 1500, 200), ("lr_4ep_x5_warm1", 20, 5)]
)
def test_learning_rate_equals_the_authors(name: str, steps: int, warmup_steps: int) -> None:
    ours = [warmup_cosine(step, steps, warmup_steps, base=0.0024) for step in range(steps)]
    np.testing.assert_allclose(ours, SDSSL[name], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [("alpha_300ep_x5_to1.0", 0.0, 1.0), ("alpha_300ep_x5_to0.8", 0.0, 0.8), ("ema_300ep_x5", 0.996, 1.0)],
)
def test_rises_equal_the_authors(name: str, start: float, end: float) -> None:
    ours = [cosine(start, end, step / 1500) for step in range(1500)]
    np.testing.assert_allclose(ours, SDSSL[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("epochs", "steps"), [(120, 10), (1000, 97), (240, 247)])
def test_drops_after_a_warm_up_equal_the_authors(epochs: int, steps: int) -> None:
    """500 steps of warm-up, a fifth of the rate 50 epochs before the end, and a fifth of that 25 before."""
    case = f"e{epochs}_i{steps}"
    milestones = [(epochs - 50) * steps, (epochs - 25) * steps]

    def ours(at: range) -> list[float]:
        return [warmup_multistep(step, milestones, 500, float(WMSE[f"{case}/lr"]), 0.2) for step in at]

    np.testing.assert_allclose(ours(range(600)), WMSE[f"{case}/first600"], rtol=1e-12)
    np.testing.assert_allclose(ours(range(steps - 1, epochs * steps, steps)), WMSE[f"{case}/epoch_end_lr"], rtol=1e-12)


def test_the_ends_are_exact() -> None:
    assert cosine(0.996, 1.0, 1.0) == 1.0
    assert warmup_cosine(0, 10, 3, base=0.5) == 0.0
    assert warmup_cosine(0, 10, 0, base=0.5) == 0.5
    assert warmup_cosine(0, 10, 1, base=0.5) == 0.0
    assert warmup_multistep(0, [], 0, base=0.5, gamma=0.1) == 0.5
    assert warmup_multistep(4, [4], 0, base=0.5, gamma=0.1) == 0.05
