"""SIGReg against its definition with complex numbers, in value and gradient, and where its value is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.alignment import mean_squared_error
from limbeck.losses.gaussian import normal_deviates, sigreg
from tests.helpers.loss_loops import epps_pulley_loops, lejepa_loops


def directions(count: int, width: int) -> Tensor:
    return F.normalize(torch.randn(count, width, dtype=torch.float64))


def test_sigreg_equals_its_definition() -> None:
    views = torch.randn(3, 6, 4, dtype=torch.float64, requires_grad=True)
    along = directions(5, 4)
    slow = torch.stack([epps_pulley_loops(view @ a) for view in views for a in along]).mean()
    fast = sigreg(views, along)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(value, views)[0] for value in (fast, slow)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-11)


def test_both_terms_equal_the_definition() -> None:
    views, along = torch.randn(4, 5, 3, dtype=torch.float64), directions(2, 3)
    centers = views[:2].mean(0).repeat(4, 1)
    found = 0.7 * mean_squared_error(views.flatten(0, 1), centers) + 0.3 * sigreg(views, along)
    torch.testing.assert_close(found, lejepa_loops(views, along, 0.3), rtol=1e-10, atol=1e-12)


def test_normal_rows_have_the_mean_of_the_statistic() -> None:
    rows = torch.randn(400, 64, 3, dtype=torch.float64)
    expected = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
    assert abs(float(sigreg(rows, directions(8, 3))) - expected) < 0.05


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_other_spreads_cost_more_and_more_with_more_rows(scale: float) -> None:
    rows, along = scale * torch.randn(1, 512, 3, dtype=torch.float64), directions(8, 3)
    many, few = float(sigreg(rows, along)), float(sigreg(rows[:, :128], along))
    assert many > 2 * few > 10


def test_half_precision_is_raised() -> None:
    assert sigreg(torch.randn(2, 4, 3).bfloat16(), directions(2, 3)).dtype is torch.float32


def test_deviates_are_normal() -> None:
    found = normal_deviates(torch.rand(2000, 4, dtype=torch.float64))
    assert found.isfinite().all()
    torch.testing.assert_close(found.T.cov(), torch.eye(4, dtype=torch.float64), rtol=0, atol=0.1)
    assert normal_deviates(torch.tensor([[0.0, 0.25]])).abs().max() == 0
