"""The choice of rows: labels that it may not see, near-duplicates, the covering radius, seeds and mistakes."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from limbeck.downstream.selection.config import SelectConfig
from limbeck.downstream.selection.select import pool_indices, select_rows
from tests.helpers.errors import raises

STRATEGIES = ("typical", "coverage", "k-center", "entropy", "margin", "random")
CLASSES = np.arange(200) % 4


def clustered() -> NDArray[np.float32]:
    """Return 200 rows of width 12 around four centers, of which the last is small and far away."""
    generator = torch.Generator().manual_seed(0)
    centers = 3 * torch.randn(4, 12, generator=generator)
    return (centers[torch.from_numpy(CLASSES)] + torch.randn(200, 12, generator=generator)).numpy()


def some_labels() -> NDArray[np.int64]:
    return np.where(np.arange(200) < 12, CLASSES, -1)


def config(strategy: Any, budget: int = 15, **settings: Any) -> SelectConfig:
    return SelectConfig(strategy=strategy, budget=budget, **settings)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_row_is_chosen_twice_and_none_that_has_a_label(strategy: str) -> None:
    found = select_rows(clustered(), config(strategy, 188), some_labels())
    assert sorted(found.rows.tolist()) == list(range(12, 200))
    assert len(found.reasons) == 188


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_chooses_the_same_rows_and_a_smaller_budget_the_first_ones(strategy: str) -> None:
    features, labels = clustered(), some_labels()
    many, again = (select_rows(features, config(strategy), labels).rows for _ in range(2))
    assert (many == again).all()
    if strategy not in ("typical", "coverage"):  # with as many clusters as the budget
        assert (select_rows(features, config(strategy, 5), labels).rows == many[:5]).all()


def test_names_of_classes_do_not_matter() -> None:
    swapped = np.where(some_labels() < 0, -1, 3 - some_labels())
    for strategy in ("margin", "typical"):
        found = [select_rows(clustered(), config(strategy), labels).rows for labels in (some_labels(), swapped)]
        assert (found[0] == found[1]).all()


def test_typical_rows_are_of_every_class_and_k_center_covers_better_than_chance() -> None:
    assert {*CLASSES[select_rows(clustered(), config("typical", 4)).rows]} == {0, 1, 2, 3}
    found = select_rows(clustered(), config("k-center")).covering
    assert found.radius < found.random_radius
    assert select_rows(clustered(), config("typical")).covering.mean < found.mean


def test_near_duplicates_are_chosen_once() -> None:
    features = clustered()
    features[100:] = features[:100]
    descriptors = np.eye(100, dtype=np.float32)[np.arange(200) % 100]
    labels = np.where(np.arange(200) == 7, 1, -1)
    found = select_rows(features, config("random", 150), labels, lambda rows: descriptors[rows])
    assert sorted(found.rows % 100) == [row for row in range(100) if row != 7]
    assert found.near_duplicates == 100


def test_the_pool_is_a_sample_that_has_every_labeled_row() -> None:
    labels = some_labels()
    small, large = (pool_indices(labels, most, 5) for most in (20, 60))
    assert len(small) == 32
    assert {*range(12)} < {*small} < {*large}
    found = select_rows(clustered(), config("typical", pool=20, seed=5), labels)
    assert {*found.rows} < {*small}
    assert found.pool == 20


def test_mistakes() -> None:
    features = clustered()
    with raises("budget-out-of-range", "188", "189"):
        select_rows(features, config("random", 189), some_labels())
    with raises("budget-out-of-range", "0"):
        select_rows(features, config("random", 0))
    with raises("unknown-strategy", "typcal", "typical"):
        select_rows(features, config("typcal"))
    with raises("strategy-needs-labels", "margin", "--labeled"):
        select_rows(features, config("margin"))
    with raises("strategy-needs-labels", "one class"):
        select_rows(features, config("entropy"), np.where(some_labels() >= 0, 1, -1))
    with raises("features-all-the-same", "20"):
        select_rows(np.ones((20, 3), np.float32), config("typical", 2))
