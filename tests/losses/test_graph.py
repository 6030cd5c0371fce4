"""Connected components of nearest neighbors against scipy and against the authors' masks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_array_equal
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from limbeck.losses.graph import components, nearest_neighbor_components
from tests.helpers.loss_loops import same_component


def same_by_scipy(neighbor: Tensor) -> np.ndarray:
    count = len(neighbor)
    edges = coo_array((np.ones(count), (np.arange(count), neighbor.numpy())), shape=(count, count))
    return same_component(torch.from_numpy(connected_components(edges, directed=False)[1]))


@pytest.mark.parametrize("count", [2, 3, 7, 64, 65, 200])
def test_components_of_any_graph_with_one_edge_a_node(count: int) -> None:
    """This includes cycles longer than two, which ties may cause, and edges from a node to itself."""
    for seed in range(5):
        neighbor = torch.randint(count, (count,), generator=torch.Generator().manual_seed(seed))
        assert_array_equal(same_component(components(neighbor)), same_by_scipy(neighbor))


def test_a_chain_and_a_ring_are_one_component() -> None:
    """These have the longest walks."""
    rows = torch.arange(33)
    assert len(components((rows - 1).clamp(min=0)).unique()) == 1
    assert len(components(rows.roll(1)).unique()) == 1


def test_nearest_neighbors_by_cosine() -> None:
    rows = torch.randn(40, 3, dtype=torch.float64)
    lengths = torch.rand(40, 1, dtype=torch.float64) + 0.1
    unit = F.normalize(rows)
    nearest = [max((j for j in range(40) if j != i), key=lambda j: float(unit[i] @ unit[j])) for i in range(40)]
    found = nearest_neighbor_components(rows * lengths)
    assert_array_equal(same_component(found), same_by_scipy(torch.tensor(nearest)))
    assert found.bincount().ne(1).all()


def test_equal_rows_form_components_of_at_least_two() -> None:
    assert nearest_neighbor_components(torch.ones(9, 4)).bincount().ne(1).all()


@pytest.mark.parametrize("view", [1, 2])
def test_masks_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]], view: int) -> None:
    g = golden("wcl_ws1")
    assert_array_equal(
        same_component(nearest_neighbor_components(torch.from_numpy(g[f"x{view}"] @ g["head2_w"].T))), g[f"mask{view}"]
    )
