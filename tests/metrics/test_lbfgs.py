"""L-BFGS finds the minima of several problems at once, each with steps of its own."""

import torch
from torch import Tensor

from limbeck.metrics.lbfgs import minimize

SCALES = torch.tensor([[1.0, 2.0, 3.0], [1.0, 100.0, 1e4], [1e-2, 1e-2, 1e-2]], dtype=torch.float64)
GOALS = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0], [0.0, 1.0, 2.0]], dtype=torch.float64)


def bowls(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return quadratic functions with their minima at the goals."""
    away = points - GOALS
    return (SCALES * away**2).sum(1) / 2, SCALES * away


def test_bowls_of_unequal_curvature_end_at_their_goals() -> None:
    found = minimize(bowls, torch.zeros_like(GOALS), SCALES.amax(1), 1e-9, 200)
    torch.testing.assert_close(found, GOALS, atol=1e-6, rtol=0)


def test_a_first_step_that_is_far_too_long_is_halved_while_the_others_go_on() -> None:
    found = minimize(bowls, torch.zeros_like(GOALS), torch.tensor([1e-3, 1e4, 1e-2]).double(), 1e-9, 300)
    torch.testing.assert_close(found, GOALS, atol=1e-6, rtol=0)


def test_no_more_evaluations_than_asked_for_and_none_at_the_minimum() -> None:
    calls = 0

    def counted(points: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        return bowls(points)

    minimize(counted, torch.zeros_like(GOALS), SCALES.amax(1), 1e-12, 5)
    assert calls == 6
    assert torch.equal(minimize(counted, GOALS, SCALES.amax(1), 1e-12, 5), GOALS)
    assert calls == 7
