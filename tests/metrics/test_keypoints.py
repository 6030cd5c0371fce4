"""Regression of keypoints: the numbers of AutoLink's protocols, our own as loops, and ridge regression."""

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.metrics.keypoints import (
    PIXELS,
    Split,
    distances,
    eye_distances,
    least_squares,
    mirrored_distances,
    near,
    ridge_distances,
    summed_errors,
)
from tests.helpers.golden import GOLDEN, assert_allclose

NUMBERS = dict(np.load(GOLDEN / "keypoint_regression.npz"))
MIRROR = [(1, 6), (2, 7), (3, 8), (4, 9), (5, 10), (17, 25), (18, 26), (19, 27), (20, 28), (21, 28), (22, 30), (23, 31)]
"""Pairs of AutoLink's code, in which 28 stands twice."""


def numbers(name: str) -> Tensor:
    return torch.from_numpy(NUMBERS[name])


def splits(name: str, scale: float = 1.0) -> tuple[Split, Split]:
    """Return the fit and the test split of a protocol; -1 is not marked there."""
    parts = ((numbers(f"{name}_{role}_det"), numbers(f"{name}_{role}_gt")) for role in ("fit", "test"))
    found = [Split(scale * (det / 2 + 0.5).flatten(1), gt.where(gt != -1, torch.nan)) for det, gt in parts]
    return found[0], found[1]


def test_human36m_mirrors_and_drops_as_the_authors_do() -> None:
    fit, errors = mirrored_distances(*splits("h36m"), MIRROR)
    assert_allclose(fit.mean(), NUMBERS["h36m_fit_error"], 4e-10)
    assert_allclose(errors.mean(), NUMBERS["h36m_test_error"], 4e-10)


def test_deepfashion_counts_what_is_near() -> None:
    fit, test = splits("fashion", PIXELS)
    assert_allclose(least_squares(fit, bias=False).flatten(1), NUMBERS["fashion_beta"], 4e-10, 1e-9)
    assert_allclose(near(fit, test).double().mean(), -NUMBERS["fashion_test_minus_share_within_6"])


def test_celeba_divides_by_the_distance_of_the_eyes() -> None:
    fit, test = splits("face")
    assert_allclose(least_squares(fit, bias=False).flatten(1), NUMBERS["face_beta"], 4e-10, 1e-9)
    assert_allclose(eye_distances(fit, test, numbers("face_test_eye")).mean(), NUMBERS["face_test_error"], 4e-10)


def test_taichi_fits_every_coordinate_where_it_is_marked() -> None:
    fit, test = splits("taichi", PIXELS)
    assert_allclose(least_squares(fit, bias=True).flatten(1).mT, NUMBERS["taichi_betas"], 4e-10, 1e-9)
    assert_allclose(summed_errors(fit, test).mean(), NUMBERS["taichi_test_error"], 4e-10)


@pytest.fixture
def marked() -> tuple[Split, Split]:
    """Return splits in which some keypoints are not marked."""
    generator = torch.Generator().manual_seed(0)
    mixture = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    found = []
    for count in (40, 15):
        features = torch.rand(count, 6, generator=generator, dtype=torch.float64)
        noise = 0.1 * torch.randn(count, 8, generator=generator, dtype=torch.float64)
        truth = (features @ mixture + 0.3 + noise).unflatten(1, (4, 2))
        truth[torch.rand(count, 4, generator=generator) < 0.2] = torch.nan
        found.append(Split(features, truth))
    return found[0], found[1]


def test_our_own_protocol_is_its_definition(marked: tuple[Split, Split]) -> None:
    fit, test = marked
    errors = distances(fit, test)
    for point in range(4):
        rows = [i for i in range(40) if not fit.truth[i, point].isnan().any()]
        inputs = np.array([[*fit.found[i].tolist(), 1] for i in rows])
        targets = fit.truth[rows, point].numpy()
        weights = np.linalg.solve(inputs.T @ inputs, inputs.T @ targets)
        for i in range(15):
            gap = np.append(test.found[i].numpy(), 1) @ weights - test.truth[i, point].numpy()
            np.testing.assert_allclose(errors[i, point], np.sqrt((gap**2).sum()), rtol=1e-9)


def test_taichis_error_is_a_mean_over_images_of_a_sum_over_coordinates(marked: tuple[Split, Split]) -> None:
    fit, test = marked
    predicted = torch.cat([test.found, torch.ones(15, 1)], dim=1) @ least_squares(fit, bias=True).flatten(1)
    gaps = (predicted - test.truth.flatten(1)).abs()
    assert_allclose(summed_errors(fit, test).mean(), gaps.nanmean(dim=0).sum())


def test_ridge_regression_chooses_a_penalty_that_suits_the_rows(marked: tuple[Split, Split]) -> None:
    """With many useless features, it is far better than least squares; its folds are runs of rows."""
    generator = torch.Generator().manual_seed(1)
    fit, test = (
        Split(torch.cat([s.found, torch.randn(len(s.found), 26, generator=generator, dtype=torch.float64)], 1), s.truth)
        for s in marked
    )
    assert ridge_distances(fit, test).nanmean() < 0.7 * distances(fit, test).nanmean()
    assert ridge_distances(*marked).nanmean() < 1.05 * distances(*marked).nanmean()
    fit, test = (split._replace(truth=torch.full_like(split.truth, 0.3)) for split in (fit, test))
    assert_allclose(ridge_distances(fit, test), np.zeros((15, 4)), 0, 1e-9)
