"""Forecasts by ridge regression are those of the authors' code, and of the formula."""

from collections.abc import Callable

import pytest
import torch

from limbeck.classification.forecasting import Pairs, forecast, pairs
from tests.helpers.golden import Golden, assert_allclose


def test_forecasts_are_those_of_the_authors(golden: Callable[[str], Golden]) -> None:
    numbers = golden("series_protocols")
    features, values = (torch.from_numpy(numbers[key]) for key in ("representations", "data"))
    steps, horizon, drop = (int(numbers[key]) for key in ("T", "horizon", "drop"))
    first, second = 2 * steps, 2 * steps + steps // 2
    parts = [(0, first, drop), (first, second, 0), (second, 3 * steps, 0)]
    train, validation, test = (pairs(features[:, a:b], values[:, a:b], horizon, d) for a, b, d in parts)
    assert_allclose(train.features, numbers["train_features"])
    assert_allclose(train.targets, numbers["train_targets"])
    assert_allclose(test.targets, numbers["test_targets"])
    found = forecast(train, validation, test)
    assert found.penalty == float(numbers["ridge_alpha"])
    assert_allclose(found.predictions, numbers["test_predictions"], rtol=1e-6)
    assert (found.mse, found.mae) == pytest.approx((float(numbers["mse"]), float(numbers["mae"])), rel=1e-7)


def test_the_fit_is_the_minimum_of_the_penalized_squares() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)
    found = forecast(Pairs(x, y), Pairs(x, y), Pairs(x, y))
    assert found.penalty == 0.1
    weight = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    offset = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    fitted = torch.linalg.solve(
        (x - x.mean(0)).T @ (x - x.mean(0)) + 0.1 * torch.eye(4, dtype=torch.float64),
        (x - x.mean(0)).T @ (y - y.mean(0)),
    )
    with torch.no_grad():
        weight += fitted
        offset += y.mean(0) - x.mean(0) @ fitted
    ((x @ weight + offset - y).square().sum() + 0.1 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-9
    assert_allclose(found.predictions, (x @ weight + offset).detach())
