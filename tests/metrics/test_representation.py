"""Geometry against loops over pairs in float64, and against the authors' numbers."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.metrics.representation import (
    deviation,
    effective_rank,
    geometry,
    negative_alignment,
    positive_alignment,
    uniformity,
)
from tests.helpers.golden import Golden


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


def test_effective_rank_is_the_exponential_of_an_entropy() -> None:
    a = features()
    singular = torch.linalg.eigvalsh(a.T @ a).sqrt().tolist()
    entropy = -sum(s / sum(singular) * math.log(s / sum(singular)) for s in singular)
    assert effective_rank(a).item() == pytest.approx(math.exp(entropy), rel=1e-10)


def test_effective_rank_counts_equal_directions_and_sees_collapse() -> None:
    assert effective_rank(torch.eye(5, 8)).item() == pytest.approx(5.0)
    assert effective_rank(torch.ones(20, 8)).item() == pytest.approx(1.0, abs=1e-4)


def test_alignment_to_the_last_layer_crosses_the_views() -> None:
    a, b, last_a, last_b = (F.normalize(features(seed=seed), dim=-1) for seed in range(4))
    pairs = [((a[i] - last_b[i]) ** 2).sum() + ((b[i] - last_a[i]) ** 2).sum() for i in range(len(a))]
    found = geometry(3 * a, 4 * b, 5 * last_a, 6 * last_b)
    assert found.to_last == pytest.approx(float(sum(pairs)) / (2 * len(a)), rel=1e-12)
    assert geometry(a[:, :3], b[:, :3], last_a, last_b).to_last is None


@pytest.mark.parametrize("model", ["base", "sd"])
def test_alignments_equal_the_sdssl_authors(golden: Callable[[str], Golden], model: str) -> None:
    data = golden("sdssl_alignment")
    first, second = (torch.from_numpy(data[f"in/view{view}_{model}"]) for view in (1, 2))
    for layer, (a, b) in enumerate(zip(first, second, strict=True)):
        found = geometry(a, b, first[-1], second[-1])._asdict()
        for prefix, kind in (("", "normalized"), ("raw_", "raw")):
            for name in ("positive", "negative", "ratio"):
                theirs = data[f"out/{kind}/{name}_{model}"][layer]
                assert found[prefix + name] == pytest.approx(theirs, rel=1e-7, abs=1e-9)


def test_deviation_is_one_for_directions_of_every_kind_and_zero_for_a_point() -> None:
    assert deviation(torch.randn(4000, 32, dtype=torch.float64)).item() == pytest.approx(1.0, abs=0.01)
    assert deviation(torch.ones(5, 3, dtype=torch.float64)).item() == pytest.approx(0.0, abs=1e-12)
    rows = features()
    unit = rows / rows.norm(dim=1, keepdim=True)
    by_hand = sum(float(((u - u.mean()) ** 2).sum() / 8) ** 0.5 for u in unit.T) / 4 * 4**0.5
    assert deviation(rows).item() == pytest.approx(by_hand, rel=1e-12)
