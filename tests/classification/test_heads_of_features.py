"""Every head equals its definition in float64, and what is chosen by leaving rows out equals fits without them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.classification.calibration import calibrate
from limbeck.classification.fit import fit_classifier
from limbeck.classification.folds import held_out_folds
from limbeck.classification.heads import NearestNeighbors, fit_head
from limbeck.classification.linear import LinearClassifier
from limbeck.classification.logistic import fit_logistic
from limbeck.classification.ridge import STRENGTHS, fit_ridge
from limbeck.classification.space import Space
from tests.helpers.errors import raises


def problem(count: int = 40, dim: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Return rows around a center per class, float64, and their classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    centers = 1.5 * torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    return centers[labels] + torch.randn(count, dim, generator=generator, dtype=torch.float64), labels


def solved(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Return the weights [D classes] of ridge regression without an intercept from the normal equations."""
    return torch.linalg.solve(x.mT @ x + penalty * torch.eye(x.shape[1], dtype=torch.float64), x.mT @ y)


@pytest.mark.parametrize(("count", "dim"), [(40, 6), (12, 20)])
def test_ridge_leaves_one_out_as_fits_without_the_row_do(count: int, dim: int) -> None:
    x, labels = problem(count, dim)
    y = F.one_hot(labels, 3).double() - 1 / 3
    singular = torch.linalg.svdvals(x)
    scale = float(singular[singular > 1e-10 * singular.max()].square().mean())
    rows = []
    for strength in STRENGTHS:
        others = [torch.arange(count) != i for i in range(count)]
        predicted = torch.stack([x[i] @ solved(x[rest], y[rest], strength * scale) for i, rest in enumerate(others)])
        accuracy = (predicted.argmax(dim=1) == labels).double().mean().item()
        rows.append((accuracy, -(y - predicted).square().mean().item(), strength))
    accuracy, error, strength = max(rows, key=lambda row: row[:2])
    found = fit_ridge(x, labels, 3)
    assert (found.accuracy, found.strength) == (accuracy, strength)
    assert found.error == pytest.approx(-error, rel=1e-9)
    torch.testing.assert_close(found.classifier.weight, solved(x, y, strength * scale).mT)


def test_the_nearest_centroid() -> None:
    x, labels = problem()
    centroids = [torch.stack([row / row.norm() for row in x[labels == c]]).mean(dim=0) for c in range(3)]
    expected = [
        int(torch.stack([F.cosine_similarity(row, center, dim=0) for center in centroids]).argmax()) for row in x
    ]
    assert fit_head("centroid", x, labels, 3)(x).argmax(dim=1).tolist() == expected


@pytest.mark.parametrize("name", ["ridge", "centroid", "logistic", "knn"])
def test_the_length_of_a_point_does_not_change_its_class(name: Any) -> None:
    x, labels = problem()
    factors = torch.linspace(0.1, 9, len(x), dtype=torch.float64)[:, None]
    first = fit_head(name, x, labels, 3)
    assert (first(x).argmax(dim=1) == first(factors * x).argmax(dim=1)).all()
    torch.testing.assert_close(fit_head(name, factors * x, labels, 3)(x), first(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_minimizes_its_objective(classes: int) -> None:
    x, labels = problem(classes=classes)
    found = fit_logistic(x, labels, classes, inverse_penalty=2.0, max_iter=5000)
    weight, bias = found.weight.clone().requires_grad_(), found.bias.clone().requires_grad_()
    penalty = 0.5 * (weight[1] - weight[0]).square().sum() if classes == 2 else 0.5 * weight.square().sum()
    loss = 2.0 * F.cross_entropy(x @ weight.mT + bias, labels, reduction="sum") + penalty
    gradients = torch.autograd.grad(loss, (weight, bias))
    assert max(gradient.abs().max().item() for gradient in gradients) < 2e-2  # scikit-learn stops at 1e-4 of the mean


def test_the_votes_of_neighbors() -> None:
    x, labels = problem(60)
    queries = problem(7)[0] + 0.1
    expected = []
    for query in queries:
        cosines = [F.cosine_similarity(query, row, dim=0).item() for row in x]
        best = sorted(range(60), key=lambda row: -cosines[row])[:20]
        votes = [sum(np.exp(cosines[row] / 0.07) for row in best if labels[row] == c) for c in range(3)]
        expected.append([np.log(max(vote / sum(votes), 1e-6)) for vote in votes])
    found = NearestNeighbors(x, labels, 3)(queries)
    np.testing.assert_allclose(found.numpy(), np.array(expected), rtol=1e-9)


@pytest.mark.parametrize("name", ["ridge", "centroid", "logistic", "knn"])
def test_a_class_without_rows_is_never_predicted(name: Any) -> None:
    x, labels = problem()
    head = fit_head(name, x, 2 * (labels % 2), 4)
    assert {*head(x).argmax(dim=1).tolist()} <= {0, 2}


def test_the_space_folds_into_a_linear_head() -> None:
    features = problem(50)[0].float().numpy()
    space = Space.fit(features, seed=0)
    assert space(torch.from_numpy(features)).square().sum(dim=1).mean().item() == pytest.approx(1, rel=1e-5)
    head = LinearClassifier(torch.randn(3, space.projection.shape[1]), torch.randn(3))
    torch.testing.assert_close(
        space.unfold(head)(torch.from_numpy(features)), head(space(torch.from_numpy(features))), atol=1e-5, rtol=0
    )
    with raises("features-all-the-same", "9"):
        Space.fit(np.ones((9, 4), np.float32), seed=0)


def test_folds_hold_out_every_row_once_and_the_only_row_of_a_class_never() -> None:
    labels = np.array([0] * 11 + [1] * 2 + [2])
    masks = list(held_out_folds(labels, seed=1))
    assert (np.sum(masks, axis=0) == [1] * 13 + [0]).all()
    for mask in masks:
        assert {*labels[~mask]} == {0, 1, 2}
    assert [list(mask) for mask in held_out_folds(labels, seed=1)] == [list(mask) for mask in masks]


def test_the_temperature_is_that_of_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial((logits / 3).softmax(dim=1), 1, generator=generator)[:, 0]
    found = calibrate(logits, labels)
    assert found.temperature == pytest.approx(3, rel=0.05)
    confidence = (logits / found.temperature).softmax(dim=1).amax(dim=1)
    assert (confidence >= found.threshold).double().mean() == pytest.approx(0.95, abs=1e-3)
    assert found.accuracy == pytest.approx(confidence.mean().item(), abs=0.01)
    assert found.accuracy is not None
    assert found.stderr == pytest.approx((found.accuracy * (1 - found.accuracy) / 20_000) ** 0.5)
    assert calibrate(logits[:0], labels[:0]).accuracy is None


def test_separated_classes_keep_probabilities_below_one() -> None:
    labels = torch.arange(80) % 4
    noise = torch.randn(80, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = 8 * F.one_hot(labels, 4) + noise
    found = calibrate(F.pad(logits, (0, 1), value=-1e4), labels)  # the last class has no row

    def loss(temperature: float) -> float:
        total = 0.0
        for row, label in zip(logits, labels.tolist(), strict=True):
            shares = (row / temperature).exp() / (row / temperature).exp().sum()
            weights = [(80 * (number == label) + 1 / 4) / 81 for number in range(4)]
            total -= sum(weight * math.log(share) for weight, share in zip(weights, shares.tolist(), strict=True))
        return total

    assert loss(found.temperature) < min(loss(0.98 * found.temperature), loss(1.02 * found.temperature))
    assert found.accuracy == 1
    assert 0.9 < found.threshold < 0.999


@pytest.mark.parametrize("name", ["ridge", "centroid", "logistic", "knn"])
def test_labels_that_are_not_given_change_nothing_and_the_depth_with_the_classes_is_found(name: Any) -> None:
    x, labels = problem(80)
    good, noise = x.float().numpy(), np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    known = np.where(np.arange(80) < 30, labels.numpy(), -1)
    found = fit_classifier({1: noise, 2: good, 3: noise[::-1].copy()}, known, 3, name)
    assert found.depth == 2
    assert found.calibration.held_out == 30
    assert found.calibration.accuracy is not None
    assert found.calibration.accuracy > 0.6
    test = found.head(found.space(torch.from_numpy(good[30:]))).argmax(dim=1)
    assert (test == labels[30:]).double().mean() > 0.6
