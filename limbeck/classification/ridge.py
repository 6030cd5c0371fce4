"""Ridge regression to class targets, in closed form, with leave-one-out predictions for every strength.

With X = U diag(s) V' [N D], the hat matrix of ridge regression without an intercept is H = U diag(s^2 / (s^2 +
strength)) U'. A fit without row i predicts y_i - (y_i - (H y)_i) / (1 - H_ii) for it (the PRESS residual; Allen 1974;
Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, eq. 7.64).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.classification.linear import LinearClassifier

STRENGTHS = tuple(10 ** (step / 2) for step in range(-8, 5))
"""Multiples of the mean squared singular value."""
SMALLEST = 1e-10
"""Singular values below this share of the largest count as zero."""


class RidgeFit(NamedTuple):
    """A fit with the strength of the best leave-one-out accuracy."""

    classifier: LinearClassifier
    strength: float
    accuracy: float
    """Share of the rows that a fit without them classifies correctly."""
    error: float
    """Mean squared error of those predictions."""


def fit_ridge(features: Float[Tensor, "N D"], labels: Int[Tensor, " N"], classes: int) -> RidgeFit:
    """Return the fit with the largest leave-one-out accuracy, of several the one with the smallest squared error.

    Targets are 1 - 1 / classes for the class of a row and -1 / classes for the others. There is no intercept, so that
    the length of a row does not change its class.

    Args:
        features: computed with in float64.
        labels: class of each row.
        classes: number of classes.
    """
    x, y = features.double(), F.one_hot(labels, classes).double() - 1 / classes
    u, s, v = _svd(x)
    projected, scale = u.mT @ y, s.square().mean()
    found = []
    for strength in STRENGTHS:
        shrunk = s.square() / (s.square() + strength * scale)
        fitted, leverage = u @ (shrunk[:, None] * projected), (u.square() * shrunk).sum(dim=1)
        left_out = y - (y - fitted) / (1 - leverage).clamp_min(1e-9)[:, None]
        accuracy = (left_out.argmax(dim=1) == labels).double().mean().item()
        error = (y - left_out).square().mean().item()
        weight = ((v * (s / (s.square() + strength * scale))) @ projected).mT.to(features.dtype)
        found.append(RidgeFit(LinearClassifier(weight, weight.new_zeros(classes)), strength, accuracy, error))
    return max(found, key=lambda fit: (fit.accuracy, -fit.error))


def _svd(x: Float[Tensor, "N D"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return U [N r], s [r] and V [D r] of the singular values that are not zero."""
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    retained = s > SMALLEST * s.max()
    return u[:, retained], s[retained], vh[retained].mT
