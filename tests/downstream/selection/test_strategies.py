"""Every strategy equals its definition, written as loops, and the authors' numbers where there are any."""

from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from limbeck.downstream.selection.choice import Choices
from limbeck.downstream.selection.coverage import ball_graph, coverage, pure_cosine
from limbeck.downstream.selection.covering import random_order
from limbeck.downstream.selection.k_center import k_center, nearest_distances
from limbeck.downstream.selection.typical import typical, typicality
from limbeck.downstream.selection.uncertainty import by_entropy, by_margin, entropy, margin
from limbeck.neighbors.graph import build_graph
from limbeck.neighbors.vectors import UnitVectors
from tests.helpers.golden import Golden, assert_allclose

Array = NDArray[np.float64]


def points(count: int = 60, dim: int = 5, seed: int = 0) -> Array:
    """Return unit vectors around four directions."""
    generator = np.random.default_rng(seed)
    found = generator.normal(size=(4, dim))[np.arange(count) % 4] + 0.4 * generator.normal(size=(count, dim))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def taken(choices: Choices, count: int, available: NDArray[np.bool_]) -> list[int]:
    """Return the first rows that a strategy chooses, each of which is then no longer available."""
    rows = []
    for choice in islice(choices, count):
        assert available[choice.row]
        available[choice.row] = False
        rows.append(choice.row)
    return rows


@pytest.mark.parametrize("name", ["k_center", "k_center_ties"])
def test_k_center_equals_the_authors(name: str, golden: Callable[[str], Golden]) -> None:
    numbers = golden(name)
    everything = np.concatenate([numbers["unlabelled"], numbers["labelled"]])
    first = len(numbers["unlabelled"])
    labeled = np.arange(first, len(everything))
    available = np.arange(len(everything)) < first
    found = taken(k_center(everything, labeled, available), int(numbers["budget"]), available)
    assert found == numbers["picked"].tolist()
    radius = nearest_distances(everything, np.concatenate([labeled, found])).max()
    assert_allclose(radius, numbers["radius_after"])


def test_k_center_begins_near_the_mean_and_halves_the_optimum_at_worst() -> None:
    values = points(40, 2)
    available = np.ones(40, bool)
    found = taken(k_center(values, np.array([], int), available), 3, available)
    assert found[0] == np.linalg.norm(values - values.mean(axis=0), axis=1).argmin()
    best = min(
        nearest_distances(values, np.array([a, b, c])).max() for a in range(40) for b in range(a) for c in range(b)
    )
    assert nearest_distances(values, np.array(found)).max() <= 2 * best


def test_uncertainty_equals_its_definition(golden: Callable[[str], Golden]) -> None:
    numbers = golden("uncertainty")
    logits, budget = numbers["logits"], int(numbers["budget"])
    assert_allclose(entropy(logits), numbers["entropy"])
    assert_allclose(margin(logits), numbers["margin"])
    for strategy, name in ((by_entropy, "entropy"), (by_margin, "margin")):
        available = np.ones(len(logits), bool)
        assert taken(strategy(logits, available), budget, available) == numbers[f"picked_by_{name}"].tolist()


def test_typical_equals_its_loop() -> None:
    values, labeled = points(), np.array([0, 4, 1])
    clusters = np.arange(60) % 4
    clusters[[56, 57, 58]] = 4  # a small cluster, which comes last
    density = typicality(build_graph(values, 20))
    for row in range(60):
        distances = sorted(np.linalg.norm(values[row] - values[other]) for other in range(60) if other != row)[:20]
        assert density[row] == pytest.approx(1 / np.mean(distances), rel=1e-3)
    expected, free = list[int](), [row for row in range(60) if row not in labeled]
    counts = [int((clusters[labeled] == cluster).sum()) for cluster in range(5)]
    sizes = [int((clusters == cluster).sum()) for cluster in range(5)]
    for _ in range(20):
        usable = [cluster for cluster in range(4) if any(clusters[row] == cluster for row in free)]
        cluster = min(usable, key=lambda cluster: (counts[cluster], -sizes[cluster], cluster))
        row = max((row for row in free if clusters[row] == cluster), key=lambda row: (density[row], -row))
        expected.append(row)
        free.remove(row)
        counts[cluster] += 1
    available = np.ones(60, bool)
    available[labeled] = False
    assert taken(typical(clusters, density, labeled, available), 20, available) == expected


def test_coverage_equals_its_loop() -> None:
    values, labeled, cosine = points(), np.array([2, 7]), 0.85
    cosines = (values @ values.T).astype(np.float32)
    balls = [{other for other in range(60) if cosines[row, other] >= cosine} | {row} for row in range(60)]
    covered, expected = balls[2] | balls[7], list[int]()
    for _ in range(12):
        free = [row for row in range(60) if row not in labeled and row not in expected]
        covered = set() if len(covered) == 60 else covered
        row = max(free, key=lambda row: (len(balls[row] - covered), -row))
        expected.append(row)
        covered = covered | balls[row]
    available = np.ones(60, bool)
    available[labeled] = False
    graph = ball_graph(UnitVectors(values, None, torch.device("cpu")), cosine)
    assert taken(coverage(graph, labeled, available), 12, available) == expected


def test_the_radius_is_the_largest_with_enough_pure_balls() -> None:
    values, clusters = points(), np.arange(60) % 4
    cosines = (values @ values.T).astype(np.float32)
    found = pure_cosine(UnitVectors(values, None, torch.device("cpu")), clusters, 0.75)

    def purity(cosine: float) -> float:
        pure = [len({clusters[j] for j in range(60) if i == j or cosines[i, j] >= cosine}) == 1 for i in range(60)]
        return float(np.mean(pure))

    assert purity(found) >= 0.75 > purity(found - 1e-4)


def test_a_random_choice_is_nested_and_seeded() -> None:
    first, second = random_order(50, 3), random_order(50, 4)
    assert sorted(first.tolist()) == list(range(50))
    assert (first == random_order(50, 3)).all()
    assert (first != second).any()
