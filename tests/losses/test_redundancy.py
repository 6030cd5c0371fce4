"""Cross-correlation, variance and covariance against loops, in value and gradient, and their invariances."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from limbeck.losses.alignment import mean_squared_error
from limbeck.losses.redundancy import covariance_penalty, cross_correlation, redundancy_reduction, variance_hinge
from tests.helpers.loss_loops import barlow_loops, covariance_loops, variance_loops


def rows(count: int = 7, width: int = 4, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(count, width, dtype=torch.float64) + 3).requires_grad_(True)


def barlow(first: Tensor, second: Tensor, weight: float) -> Tensor:
    return redundancy_reduction(cross_correlation(first, second), weight)


@pytest.mark.parametrize("weight", [0.0051, 1.0])
def test_barlow_equals_its_definition(weight: float) -> None:
    views = rows(), rows()
    values = [loss(*views, weight) for loss in (barlow, barlow_loops)]
    torch.testing.assert_close(*values, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(value, views) for value in values]
    for pair in zip(*gradients, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("pair", [(variance_hinge, variance_loops), (covariance_penalty, covariance_loops)])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_terms_of_vicreg_equal_their_definitions(pair: tuple[Callable[..., Tensor], ...], scale: float) -> None:
    z = rows(scale=scale)
    values = [term(z) for term in pair]
    torch.testing.assert_close(*values, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(value, z)[0] for value in values]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-11)


def test_barlow_ignores_shift_and_scale_of_columns() -> None:
    first, second = rows(scale=50.0), rows(scale=50.0)
    scaled = second * torch.tensor([1.0, 20.0, 3.0, 7.0]) - 9
    torch.testing.assert_close(barlow(first, scaled, 0.1), barlow(first, second, 0.1), rtol=1e-6, atol=0)


def test_equal_views_with_uncorrelated_columns_have_no_loss() -> None:
    signs = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    assert barlow(1e3 * signs, 1e3 * signs, 1.0) < 1e-6
    assert covariance_penalty(signs) == 0
    assert variance_hinge(signs) == 0
    assert mean_squared_error(signs, signs) == 0


def test_collapsed_columns_cost_the_most_and_have_a_gradient() -> None:
    z = (5 + 1e-3 * torch.randn(6, 3)).requires_grad_(True)
    variance_hinge(z).backward()
    assert variance_hinge(z) > 0.98
    assert z.grad is not None
    assert z.grad.abs().sum() > 0


def test_half_precision_is_raised() -> None:
    z = rows().detach().bfloat16()
    for value in (barlow(z, z, 0.1), variance_hinge(z), covariance_penalty(z), mean_squared_error(z, z)):
        assert value.dtype is torch.float32


def test_moments_are_averaged_over_processes() -> None:
    """With the other process's moments as the other half of the average, half of the rows give the whole loss."""
    z = rows(8).detach()
    halves = z[::2], z[1::2]
    seen: list[list[Tensor]] = [[], []]

    def record(index: int) -> Callable[[Tensor], Tensor]:
        def average(x: Tensor) -> Tensor:
            seen[index].append(x)
            return torch.stack([steps[len(seen[index]) - 1] for steps in moments]).mean(0)

        return average

    mean = z.mean(0)
    centered = [half - mean for half in halves]
    moments = [[half.mean(0), c.T @ c / len(c)] for half, c in zip(halves, centered, strict=True)]
    found = [covariance_penalty(half, 2, record(index)) for index, half in enumerate(halves)]
    for value, local, expected in zip(found, seen, moments, strict=True):
        assert all(torch.allclose(*pair, rtol=1e-12) for pair in zip(local, expected, strict=True))
        torch.testing.assert_close(value, covariance_penalty(z), rtol=1e-12, atol=0)
