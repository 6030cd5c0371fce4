"""Analytic features: discriminants against their definition, covariances against loops, the cache."""

from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.data.samples import digits
from limbeck.data.store.store import Store
from limbeck.features import analytic
from limbeck.features.analytic import analytic_features, discriminants, fit_projection
from limbeck.features.fitted_patch_filters import PatchFilters, patch_filters
from limbeck.features.images import augmented_images, eval_images
from limbeck.models.patch_filters import MEAN, STD, PatchFiltersConfig

CFG = PatchFiltersConfig(filters=6, patches=600, iterations=3)
CPU = torch.device("cpu")


def images(count: int = 40) -> Store:
    pixels, labels = digits()
    return Store.from_arrays(pixels[:count, 6:22, 6:22], labels[:count])


@pytest.fixture
def filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatchFilters:
    monkeypatch.setattr(analytic, "patch_filters", lambda store, *_: patch_filters(store, CFG, tmp_path))
    return patch_filters(images(), CFG, tmp_path)


def positive(size: int, seed: int) -> torch.Tensor:
    root = torch.randn(size, 2 * size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.mT


def test_discriminants_solve_the_generalized_eigenproblem() -> None:
    total, within = positive(9, 0), positive(9, 1)
    ridged = within + analytic.RIDGE * total.diagonal().mean() * torch.eye(9)
    found = discriminants(total, within, 4).double()
    ratios = torch.linalg.eigvals(torch.linalg.solve(ridged, total)).real.sort(descending=True).values[:4]
    torch.testing.assert_close(total @ found, ridged @ found * ratios, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((found.mT @ ridged @ found).diagonal(), ratios.rsqrt(), rtol=1e-5, atol=0)


def test_directions_without_variance_are_left_out() -> None:
    total = torch.diag(torch.tensor([3.0, 0.0, 1.0, 0.0], dtype=torch.float64))
    assert discriminants(total, torch.eye(4, dtype=torch.float64), 4).shape == (4, 2)


def test_the_projection_follows_from_covariances_of_images_and_of_their_views(filters: PatchFilters) -> None:
    store = images()
    rows, size = np.arange(len(store)), filters.preprocessing.image_size
    features = filters(eval_images(store, size, MEAN, STD, CPU)(rows)).double()
    view = analytic.filter_view(size)
    draws = [filters(augmented_images(store, view, n, CPU, seed=0)(rows)).double() for n in range(analytic.VIEWS)]
    within = torch.zeros(filters.dim, filters.dim, dtype=torch.float64)
    for row in rows:
        within += torch.stack([draw[row] for draw in draws]).mT.cov() / len(store)
    expected = discriminants(features.mT.cov(correction=0), within, analytic.DIM).double()
    found = fit_projection(store, filters).double()
    torch.testing.assert_close(found @ found.mT, expected @ expected.mT, rtol=1e-3, atol=1e-3)


def test_features_are_fitted_once_and_again_if_their_file_is_damaged(
    filters: PatchFilters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = analytic_features(images(), tmp_path)
    with monkeypatch.context() as without_fit:
        without_fit.setattr(analytic, "fit_projection", lambda *_: pytest.fail("fitted twice"))
        assert torch.equal(analytic_features(images(), tmp_path).projection, first.projection)
    [file] = tmp_path.glob("analytic-*")
    file.write_bytes(b"no tensors")
    assert torch.equal(analytic_features(images(), tmp_path).projection, first.projection)
