"""Decay and LiDAR against cases whose answer is known, and against loops in float64."""

import math

import pytest
import torch
from torch import Tensor

from limbeck.metrics.spectrum import WITHIN_RIDGE, lidar, spectral_decay


def with_spectrum(values: Tensor, rows: int = 200) -> Tensor:
    """Return centered features whose covariance has these eigenvalues, up to a factor, in float64."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(rows, len(values), generator=generator, dtype=torch.float64)
    directions, _ = torch.linalg.qr(drawn - drawn.mean(dim=0))
    rotation, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    return directions * values.sqrt() @ rotation


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_the_decay_of_a_power_law_is_its_exponent(alpha: float) -> None:
    values = torch.arange(1, 65, dtype=torch.float64).pow(-alpha)
    assert spectral_decay(3 * with_spectrum(values)).item() == pytest.approx(alpha, abs=1e-9)


def test_the_decay_is_a_weighted_line_through_the_logarithms() -> None:
    values = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).sort(descending=True)[0]
    ranks = range(10, 21)
    weights, xs, ys = [1 / j for j in ranks], [math.log(j) for j in ranks], [math.log(values[j - 1]) for j in ranks]
    mean_x, mean_y = (sum(w * v for w, v in zip(weights, vs, strict=True)) / sum(weights) for vs in (xs, ys))
    products = [w * (x - mean_x) * (y - mean_y) for w, x, y in zip(weights, xs, ys, strict=True)]
    slope = sum(products) / sum(w * (x - mean_x) ** 2 for w, x in zip(weights, xs, strict=True))
    assert spectral_decay(with_spectrum(values)).item() == pytest.approx(-slope, abs=1e-9)


def test_lidar_equals_its_definition() -> None:
    views = torch.randn(7, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    means = [sum(view for view in image) / 3 for image in views]
    center = sum(means, torch.zeros(4)) / 7
    between = sum((torch.outer(m - center, m - center) for m in means), torch.zeros(4, 4)) / 6
    spread = [torch.outer(view - m, view - m) for image, m in zip(views, means, strict=True) for view in image]
    within = sum(spread, torch.zeros(4, 4)) / (7 * 2)
    ridge = WITHIN_RIDGE * within.diagonal().mean() * torch.eye(4)
    ratios = torch.linalg.eigvals(torch.linalg.solve(within + ridge, between)).real
    shares = ratios / ratios.sum()
    expected = math.exp(-sum(float(p) * math.log(p) for p in shares))
    assert lidar(views).item() == pytest.approx(expected, rel=1e-9)


def test_lidar_counts_the_directions_that_views_leave() -> None:
    """Images differ in three directions as much as views do in all eight."""
    generator = torch.Generator().manual_seed(3)
    images = torch.zeros(2000, 1, 8, dtype=torch.float64)
    images[..., :3] = 30 * torch.randn(2000, 1, 3, generator=generator, dtype=torch.float64)
    views = images + torch.randn(2000, 4, 8, generator=generator, dtype=torch.float64)
    assert lidar(views).item() == pytest.approx(3, abs=0.05)
    assert lidar(100 * views).item() == pytest.approx(lidar(views).item(), rel=1e-9)
