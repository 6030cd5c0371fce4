"""Near-duplicates searched in cells are those of an exact search, also across the borders of cells."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from limbeck.neighbors import cells
from limbeck.neighbors.cells import search_cells
from limbeck.neighbors.near_duplicates import matches_within
from limbeck.neighbors.vectors import UnitVectors

CPU = torch.device("cpu")


def rows_with_copies(count: int, dim: int, noise: float) -> NDArray[np.float32]:
    """Return rows of no structure, whose last third are noisy copies of the first."""
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((count, dim)).astype(np.float32)
    part = count // 3
    rows[-part:] = rows[:part] + noise * draw.standard_normal((part, dim)).astype(np.float32)
    return rows


@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_cells_find_what_an_exact_search_finds(noise: float) -> None:
    features = rows_with_copies(900, 12, noise)
    exact, found = (matches_within(features, 0.97, search=search) for search in ("exact", "cells"))
    assert len(exact.indices) > 500
    assert np.isin(found.indices, exact.indices).all()
    assert len(found.indices) >= 0.95 * len(exact.indices)
    if noise == 0:
        for one, other in zip(found, exact, strict=True):
            np.testing.assert_array_equal(one, other)


def test_as_many_cells_are_searched_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "LEAST", 1.0)
    features = rows_with_copies(150, 3, 0.2)
    exact = matches_within(features, 0.99, search="exact")
    found = search_cells(UnitVectors(features, None, CPU), 5, 0.99)
    assert found.found == 1
    rows = np.flatnonzero(found.cosines[:, 0] >= 0.99)
    np.testing.assert_array_equal(rows, exact.indices)
    np.testing.assert_array_equal(found.neighbors[rows, 0], exact.match_indices)
    np.testing.assert_array_equal(found.cosines[rows, 0], exact.cosines)


@pytest.mark.parametrize("least", [0.3, 0.8, 0.9])
def test_what_is_said_to_be_found_is_found(least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are searched exactly here, so that the share is that of all near-duplicates, counted one by one."""
    monkeypatch.setattr(cells, "LEAST", least)
    features = rows_with_copies(900, 12, 0.15)
    found = search_cells(UnitVectors(features, None, CPU), 5, 0.9)
    monkeypatch.setattr(cells, "LEAST", 1.0)
    exact = search_cells(UnitVectors(features, None, CPU), 5, 0.9)
    pairs = [
        {(row, other) for row, others in enumerate(result.neighbors.tolist()) for other in others if other >= 0}
        for result in (found, exact)
    ]
    assert len(pairs[0] & pairs[1]) / len(pairs[1]) == pytest.approx(found.found)
    assert least <= found.found < 1


def test_a_row_is_searched_in_its_own_cell_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tight bundles far from each other are two cells of ten rows, and no row is compared with the other bundle."""
    monkeypatch.setattr(cells, "LEAST", 0.0)
    draw = np.random.default_rng(1)
    bundles = np.repeat(np.eye(4, dtype=np.float32), 4, axis=0) + 1e-3 * draw.standard_normal((16, 4)).astype("f4")
    found = search_cells(UnitVectors(bundles, None, CPU), 3, 0.9)
    assert (found.neighbors // 4 == np.arange(16)[:, None] // 4).all()
    assert (found.neighbors != np.arange(16)[:, None]).all()


def test_without_near_duplicates_nothing_is_found() -> None:
    found = search_cells(UnitVectors(np.eye(20, dtype=np.float32), None, CPU), 2, 0.5)
    assert (found.neighbors == -1).all()
    assert (found.found, found.cosines.max()) == (1.0, -np.inf)
