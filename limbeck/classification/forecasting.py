"""Forecasting by ridge regression on features of every step: TS2Vec's protocol.

Yue et al., AAAI 2022; `tasks/forecasting.py` and `tasks/_eval_protocols.py` in yuezhihan/ts2vec b0088e1. The features
of step t predict the values of the steps t + 1 to t + H, all channels at once. The penalty is that with the least sum
of root mean squared and mean absolute error on the validation part; the fit on the training part stays.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

PENALTIES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Pairs(NamedTuple):
    """Features of steps, and the values that follow each of them."""

    features: Float[Tensor, "n D"]
    targets: Float[Tensor, "n HC"]


class Forecast(NamedTuple):
    """A fit, its forecasts of the test part, and their errors in the units of the values."""

    penalty: float
    predictions: Float[Tensor, "n HC"]
    mse: float
    mae: float


def pairs(features: Float[Tensor, "N T D"], values: Float[Tensor, "N T C"], horizon: int, drop: int = 0) -> Pairs:
    """Return the steps, but for the first `drop`, that have `horizon` steps behind them, with these steps' values."""
    count = values.shape[1] - horizon
    windows = values.unfold(1, horizon, 1)[:, 1 : count + 1].mT  # [N count H C]
    return Pairs(features[:, drop:count].flatten(0, 1), windows[:, drop:].flatten(0, 1).flatten(1))


def forecast(train: Pairs, validation: Pairs, test: Pairs) -> Forecast:
    """Fit in float64 on `train` with the penalty that is best on `validation`, and score on `test`."""
    x, y = train.features.double(), train.targets.double()
    mean, offset = x.mean(dim=0), y.mean(dim=0)
    u, s, vh = torch.linalg.svd(x - mean, full_matrices=False)
    projected = u.mT @ (y - offset)
    best: tuple[float, float, Tensor] | None = None
    for penalty in PENALTIES:
        weight = vh.mT @ ((s / (s.square() + penalty))[:, None] * projected)
        error = (validation.features.double() - mean) @ weight + offset - validation.targets.double()
        score = error.square().mean().sqrt().item() + error.abs().mean().item()
        if best is None or score < best[0]:
            best = score, penalty, weight
    assert best is not None, "there are penalties"
    predictions = (test.features.double() - mean) @ best[2] + offset
    error = predictions - test.targets.double()
    return Forecast(best[1], predictions, error.square().mean().item(), error.abs().mean().item())
