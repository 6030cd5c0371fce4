"""Components of nearest neighbours against scipy's and against the authors' masks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_array_equal
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from limbeck.losses.graph import components, neighbour_components
from tests.helpers.loss_loops import same_component


def same_by_scipy(neighbour: Tensor) -> np.ndarray:
    count = len(neighbour)
    edges = coo_array((np.ones(count), (np.arange(count), neighbour.numpy())), shape=(count, count))
    return same_component(torch.from_numpy(connected_components(edges, directed=False)[1]))


@pytest.mark.parametrize("count", [2, 3, 7, 64, 65, 200])
def test_components_of_any_graph_with_one_edge_a_node(count: int) -> None:
    """Also with cycles longer than two, which ties may cause, and with nodes that point at themselves."""
    for seed in range(5):
        neighbour = torch.randint(count, (count,), generator=torch.Generator().manual_seed(seed))
        assert_array_equal(same_component(components(neighbour)), same_by_scipy(neighbour))


def test_a_chain_and_a_ring_are_one_component() -> None:
    """The longest walks there are."""
    rows = torch.arange(33)
    assert len(components((rows - 1).clamp(min=0)).unique()) == 1
    assert len(components(rows.roll(1)).unique()) == 1


def test_nearest_neighbours_by_cosine() -> None:
    rows = torch.randn(40, 3, dtype=torch.float64)
    lengths = torch.rand(40, 1, dtype=torch.float64) + 0.1
    unit = F.normalize(rows)
    nearest = [max((j for j in range(40) if j != i), key=lambda j: float(unit[i] @ unit[j])) for i in range(40)]
    found = neighbour_components(rows * lengths)
    assert_array_equal(same_component(found), same_by_scipy(torch.tensor(nearest)))
    assert found.bincount().ne(1).all()


def test_rows_that_are_all_alike_hang_together_in_pairs_at_least() -> None:
    assert neighbour_components(torch.ones(9, 4)).bincount().ne(1).all()


@pytest.mark.parametrize("view", [1, 2])
def test_masks_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]], view: int) -> None:
    g = golden("wcl_ws1")
    assert_array_equal(
        same_component(neighbour_components(torch.from_numpy(g[f"x{view}"] @ g["head2_w"].T))), g[f"mask{view}"]
    )
