"""Geometry of features against loops over pairs, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.metrics.representation import (
    effective_rank,
    negative_alignment,
    normalized_std,
    positive_alignment,
    uniformity,
)


def features(rows: int = 9, dim: int = 4, seed: int = 0) -> Tensor:
    """Random features, off centre."""
    return 0.5 + torch.randn(rows, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pair_distances(a: Tensor) -> list[float]:
    """|a_i - a_j|^2 over pairs i < j."""
    return [float(((a[i] - a[j]) ** 2).sum()) for i in range(len(a)) for j in range(i + 1, len(a))]


def test_alignments_are_means_over_pairs() -> None:
    a, b = features(seed=0), features(seed=1)
    positive = sum(float(((x - y) ** 2).sum()) for x, y in zip(a, b, strict=True)) / len(a)
    pairs = pair_distances(a)
    assert positive_alignment(a, b).item() == pytest.approx(positive, rel=1e-12)
    assert negative_alignment(a).item() == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)


def test_uniformity_is_the_log_mean_potential() -> None:
    pairs = pair_distances(F.normalize(features(), dim=-1))
    potential = sum(math.exp(-2 * distance) for distance in pairs) / len(pairs)
    assert uniformity(features()).item() == pytest.approx(math.log(potential), rel=1e-12)
    assert uniformity(features(rows=1)).item() == 0


def test_effective_rank_is_the_exponential_of_an_entropy() -> None:
    a = features()
    singular = torch.linalg.eigvalsh(a.T @ a).sqrt().tolist()
    entropy = -sum(s / sum(singular) * math.log(s / sum(singular)) for s in singular)
    assert effective_rank(a).item() == pytest.approx(math.exp(entropy), rel=1e-10)


def test_effective_rank_counts_equal_directions_and_is_one_after_collapse() -> None:
    assert effective_rank(torch.eye(5, 8)).item() == pytest.approx(5.0)
    assert effective_rank(torch.ones(20, 8)).item() == pytest.approx(1.0, abs=1e-4)


def test_normalized_std_is_one_for_isotropic_directions_and_zero_for_a_point() -> None:
    assert normalized_std(torch.randn(4000, 32, dtype=torch.float64)).item() == pytest.approx(1.0, abs=0.01)
    assert normalized_std(torch.ones(5, 3, dtype=torch.float64)).item() == pytest.approx(0.0, abs=1e-12)
    assert normalized_std(torch.ones(1, 3)).item() == 0
    rows = features()
    unit = rows / rows.norm(dim=1, keepdim=True)
    by_hand = sum(float(((u - u.mean()) ** 2).sum() / 8) ** 0.5 for u in unit.T) / 4 * 4**0.5
    assert normalized_std(rows).item() == pytest.approx(by_hand, rel=1e-12)
