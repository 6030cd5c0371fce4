"""The logistic probe: scikit-learn's optimum on whitened features, for every depth as if it were alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.evaluation import logistic_probe
from limbeck.evaluation.logistic_probe import LogisticHeads, LogisticProbe, fit_heads

CPU = torch.device("cpu")
CLASSES = 3
EXACT = LogisticProbe(penalties=(0.02,), tolerance=1e-10)


def overlapping(rows: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[dict[int, Tensor], Tensor]:
    """Return features of three depths and two widths, with columns of very unequal scales, far from zero."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (rows,), generator=generator)
    centers = torch.randn(CLASSES, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    clean = centers[labels] + torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    scales = torch.tensor([1e-2, 1, 1, 3, 10, 100], dtype=torch.float64)
    return {1: (clean * scales + 5).to(dtype), 2: clean[:, :4].to(dtype), 3: clean[:, 2:].flip(1).to(dtype)}, labels


def whitened(rows: Tensor, like: Tensor, ridge: float) -> Tensor:
    """Whiten `rows` by the symmetric root of the covariance of `like`; a root of another kind is a rotation of it."""
    centered = like - like.mean(0)
    covariance = centered.T @ centered / len(like)
    added = ridge * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=like.dtype)
    values, vectors = torch.linalg.eigh(covariance + added)
    return (rows - like.mean(0)) @ (vectors * values**-0.5) @ vectors.T


def logits(heads: LogisticHeads, features: dict[int, Tensor]) -> Tensor:
    """Return the logits [L M classes], less their mean over the classes."""
    found = logistic_probe._logits([features[depth] for depth in heads.depths], heads._columns(heads.weights))
    return found - found.mean(2, keepdim=True)


def test_the_optimum_is_that_of_scikit_learn_on_whitened_features() -> None:
    from sklearn.linear_model import LogisticRegression

    (features, labels), (test, test_labels) = overlapping(120, 1), overlapping(50, 2)
    heads = fit_heads(EXACT, features, labels, CLASSES, CPU)
    scores = heads.accuracy(test, test_labels, torch.ones(50))
    for depth, found, score in zip(features, logits(heads, test), scores, strict=True):
        inputs, queries = (whitened(x[depth], features[depth], EXACT.ridge).numpy() for x in (features, test))
        model = LogisticRegression(C=1 / (0.02 * 120), tol=1e-10, max_iter=10_000).fit(inputs, labels.numpy())
        expected = model.decision_function(queries)
        np.testing.assert_allclose(found, expected - expected.mean(1, keepdims=True), atol=1e-7)
        assert score.item() == pytest.approx(model.score(queries, test_labels.numpy()))


def test_the_gradient_is_that_of_autograd() -> None:
    features, labels = overlapping(40, 3)
    heads = LogisticHeads(features, labels, CLASSES, CPU, ridge=0.1)
    weights = torch.randn_like(heads.weights).requires_grad_()
    rows, penalty = torch.rand(40, dtype=torch.float64), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    found = logistic_probe._logits(list(features.values()), heads._columns(weights)).log_softmax(2)
    entropies = -found[:, torch.arange(40), labels] @ rows / rows.sum()
    expected = entropies + penalty / 2 * weights[:, :-1].square().sum((1, 2))
    value, gradient = heads.objective(weights.detach(), rows, penalty)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), weights)[0])


def test_depths_together_are_depths_alone_also_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = overlapping(90, 4)
    probe = LogisticProbe(penalties=(0.3, 0.01, 1e-4), tolerance=1e-9)
    together = fit_heads(probe, features, labels, CLASSES, CPU)
    monkeypatch.setattr(logistic_probe, "BLOCK", 60)
    for index, depth in enumerate(features):
        alone = fit_heads(probe, {depth: features[depth]}, labels, CLASSES, CPU)
        torch.testing.assert_close(logits(alone, features)[0], logits(together, features)[index], atol=1e-5, rtol=0)


def test_each_depth_has_the_strength_that_is_best_on_the_rows_held_out() -> None:
    features, labels = overlapping(60, 5)
    strengths, tolerance = (3.0, 0.1, 1e-4), 1e-8  # of the gradient: weights are known to within tolerance / strength
    probe = LogisticProbe(penalties=strengths, tolerance=tolerance)
    held = logistic_probe._held_out(60, probe)
    assert held.sum() == 12
    heads = fit_heads(probe, features, labels, CLASSES, CPU)
    for index, depth in enumerate(features):
        one, scores, optima = {depth: features[depth]}, [], []
        for strength in strengths:
            alone = LogisticHeads(one, labels, CLASSES, CPU, probe.ridge)
            penalty = torch.tensor([strength], dtype=torch.float64)
            alone.minimize(1 - held.double(), penalty, probe)
            scores.append(alone.accuracy(one, labels, held).item())
            alone.minimize(torch.ones(60, dtype=torch.float64), penalty, probe)
            optima.append(logits(alone, one)[0])
        best = optima[scores.index(max(scores))]
        torch.testing.assert_close(logits(heads, features)[index], best, atol=tolerance / min(strengths), rtol=0)


def test_columns_without_variance_and_classes_without_rows_do_no_harm() -> None:
    features, labels = overlapping(50, 6, torch.float32)
    features[2] = torch.cat([features[2], torch.ones(50, 2)], dim=1)
    features[3] = torch.zeros_like(features[3])
    heads = fit_heads(LogisticProbe(), features, labels, CLASSES + 1, CPU)
    scores = heads.accuracy(features, labels, torch.ones(50))
    assert torch.isfinite(heads.weights).all()
    assert scores[2].item() == pytest.approx(labels.bincount().max().item() / 50)
    assert scores[0] > 0.6


def test_probabilities_and_the_best_classes_are_those_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_probe, "BLOCK", 7 * 3 * CLASSES)
    (features, labels), (test, test_labels) = overlapping(60, 1), overlapping(50, 2)
    heads = fit_heads(EXACT, features, labels, CLASSES, CPU)
    expected = logits(heads, test)
    confidences, predicted = heads.predict(test)
    torch.testing.assert_close(confidences, expected.softmax(2).amax(2))
    assert torch.equal(predicted, expected.argmax(2))
    ranks = (expected > expected.gather(2, test_labels.expand(3, -1)[..., None])).sum(2)
    for k in (1, 2):
        assert torch.equal(heads.top_correct(test, test_labels, k), ranks < k)
