"""Multinomial logistic regression of frozen features."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.classification.linear import LinearClassifier


def fit_logistic(
    features: Float[Tensor, "N D"],
    labels: Int[Tensor, " N"],
    classes: int,
    inverse_penalty: float = 1.0,
    max_iter: int = 1000,
    intercept: bool = True,
) -> LinearClassifier:
    """Return the minimum of `inverse_penalty` * (sum of the cross-entropies) + 0.5 |weight|^2, by L-BFGS.

    The bias has no penalty. A class without a row gets a bias of -1e4, so that it is never the largest. With two
    classes the penalty is on the difference of their weights.

    Args:
        features: on any device; the result is on the CPU in their precision.
        labels: class of each row, of which there are two or more.
        classes: number of classes.
        inverse_penalty: scikit-learn's C.
        max_iter: iterations at most.
        intercept: fit a bias; without one the length of a row does not change its class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    model = LogisticRegression(C=inverse_penalty, solver="lbfgs", max_iter=max_iter, fit_intercept=intercept)
    # One thread: with two on a busy machine of two cores the same 2,000 rows took 4 to 26 s instead of 0.4.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # `max_iter` is part of the protocol
        model.fit(features.cpu().numpy(), labels.cpu().numpy())
    weight, bias = (torch.from_numpy(found).to(features.dtype) for found in (model.coef_, model.intercept_))
    if len(model.classes_) == 2:
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    every = LinearClassifier(features.new_zeros(classes, features.shape[1]).cpu(), weight.new_full((classes,), -1e4))
    every.weight[torch.from_numpy(model.classes_)] = weight
    every.bias[torch.from_numpy(model.classes_)] = bias
    return every
