"""Patch filters against loops in float64, their fit, their cache."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from limbeck.data.store.store import Store
from limbeck.features.fitted_patch_filters import PatchFilters, lloyd, patch_filters, zca
from limbeck.features.images import eval_images
from limbeck.features.pixels import CenteredPixels
from limbeck.metrics.knn import knn_accuracy
from limbeck.models.patch_filters import CHUNK, MEAN, STD, PatchFiltersConfig

CFG = PatchFiltersConfig(filters=7, patches=600, iterations=3)
CPU = torch.device("cpu")


def noise(count: int = 5, side: int = 11, seed: int = 0) -> Store:
    return Store.from_arrays(np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def features(network: PatchFilters | CenteredPixels, store: Store) -> torch.Tensor:
    seen = network.preprocessing
    return network(eval_images(store, seen.image_size, seen.mean, seen.std, CPU)(np.arange(len(store))))


def code(patch: NDArray[np.float64], center: np.ndarray, whitening: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the triangle activations of one patch, on the scale 0 to 255."""
    deviation = np.sqrt(patch.var(ddof=1) + 10)
    white = whitening @ ((patch - patch.mean()) / deviation - center)
    distances = np.array([np.linalg.norm(white - centroid) for centroid in centroids])
    return np.maximum(0, distances.mean() - distances)


def test_threads_change_neither_the_features_nor_the_threads_of_others() -> None:
    network, store = PatchFilters.fit(noise(), CFG), noise(9)
    expected = features(network, store)
    torch.set_num_threads(3)
    assert torch.equal(features(network, store), expected)
    with ThreadPoolExecutor(1) as other:
        assert (torch.get_num_threads(), other.submit(torch.get_num_threads).result()) == (3, 3)


@pytest.mark.parametrize("side", [11, 12])
def test_convolutions_equal_loops_over_patches(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    center, centroids = (torch.randn(*shape, generator=generator) for shape in ((108,), (7, 108)))
    root = torch.randn(108, 108, generator=generator) / 10
    whitening = root @ root.mT
    network = PatchFilters(CFG, side, side)
    network.set_filters(center, whitening, centroids)
    network.mean.fill_(0.25)
    store = noise(3, side)
    found = features(network, store)
    places = side - 5
    c, w, k = center.double().numpy(), whitening.double().numpy(), centroids.double().numpy()
    for image, row in zip(store.images[:], found, strict=True):
        pixels = image.astype(np.float64).transpose(2, 0, 1)
        codes = np.array(
            [[code(pixels[:, y : y + 6, x : x + 6].ravel(), c, w, k) for x in range(places)] for y in range(places)]
        )
        halves = slice(0, -(-places // 2)), slice(places // 2, places)
        quadrants = np.array([codes[rows, columns].mean(axis=(0, 1)) for rows in halves for columns in halves])
        expected = np.sqrt(quadrants.T.ravel()) - 0.25
        np.testing.assert_allclose(row, expected, atol=2e-4)


def test_whitened_patches_have_the_covariance_that_the_constant_leaves() -> None:
    patches = torch.randn(500, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) @ torch.randn(
        6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    center, whitening = zca(patches.float(), 0.1)
    white = (patches - center.double()) @ whitening.double()
    before, after = (torch.linalg.eigvalsh(values.mT.cov()) for values in (patches, white))
    torch.testing.assert_close(after, before / (before + 0.1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(whitening, whitening.mT)


def test_lloyd_equals_loops_and_leaves_a_centroid_without_points() -> None:
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(3))
    start = torch.cat([points[:4], torch.full((1, 3), 99.0)])
    expected = start.double().numpy()
    for _ in range(4):
        groups: list[list[np.ndarray]] = [[] for _ in expected]
        for point in points.double().numpy():
            groups[int(np.argmin([((point - centroid) ** 2).sum() for centroid in expected]))].append(point)
        expected = np.array(
            [np.mean(group, axis=0) if group else own for group, own in zip(groups, expected, strict=True)]
        )
    np.testing.assert_allclose(lloyd(points, start, 4), expected, atol=1e-5)


def test_a_fit_follows_from_the_seed_and_centers_the_training_images() -> None:
    store = noise(20)
    first, again = (features(PatchFilters.fit(store, CFG), store) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (20, 28)
    assert not torch.equal(first, features(PatchFilters.fit(store, replace(CFG, seed=1)), store))
    torch.testing.assert_close(first.mean(dim=0), torch.zeros(28), atol=1e-6, rtol=0)


def test_chunks_and_an_autocast_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = noise(9)
    network = PatchFilters.fit(store, CFG)
    expected = features(network, store)
    images = eval_images(store, 11, MEAN, STD, CPU)(np.arange(9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(images), expected)
    monkeypatch.setitem(CHUNK, "cpu", 9)
    torch.testing.assert_close(features(network, store), expected)
    assert expected.dtype == torch.float32


@pytest.mark.parametrize("images", [noise(1, 4), Store.from_arrays(np.full((2, 40, 40, 3), 200, np.uint8))])
def test_few_tiny_and_blank_images_give_finite_features(images: Store) -> None:
    for network in (PatchFilters.fit(images), CenteredPixels.fit(images)):
        found = features(network, images)
        assert found.isfinite().all()
        assert found.shape == (len(images), network.dim)
    assert PatchFilters.fit(images).preprocessing.image_size == (8 if len(images) == 1 else 32)


def test_filters_are_fitted_once_for_a_store_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = noise(9)
    first = features(patch_filters(store, CFG, tmp_path), store)
    (file,) = tmp_path.glob("patch-filters-*.safetensors")
    monkeypatch.setattr(PatchFilters, "fit", lambda *_: pytest.fail("fitted again"))
    assert torch.equal(features(patch_filters(store, CFG, tmp_path), store), first)
    monkeypatch.undo()
    for other in (patch_filters(noise(9, seed=1), CFG, tmp_path), patch_filters(store, replace(CFG, seed=1), tmp_path)):
        assert not torch.equal(features(other, store), first)
    assert len([*tmp_path.glob("*.safetensors")]) == 3
    file.write_bytes(b"damaged")
    assert torch.equal(features(patch_filters(store, CFG, tmp_path), store), first)
    assert str(file) in caplog.text
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert torch.equal(features(patch_filters(store, CFG, blocked), store), first)
    assert "not cached" in caplog.text


def stripes(count: int, seed: int) -> Store:
    """Return images of stripes across or down, wherever they begin, which is all that pixels would agree about."""
    generator, labels = np.random.default_rng(seed), np.arange(count) % 2
    phases = generator.integers(0, 4, count)[:, None] + np.arange(16)
    lines = np.where(phases % 4 < 2, 60, 180)[:, None, :].repeat(16, axis=1)
    images = np.where(labels[:, None, None] == 1, lines, lines.transpose(0, 2, 1))
    noisy = images + generator.integers(-40, 40, images.shape)
    return Store.from_arrays(noisy.astype(np.uint8), labels)


def test_filters_know_textures_wherever_they_begin() -> None:
    train, test = stripes(60, 0), stripes(40, 1)
    network = PatchFilters.fit(train, PatchFiltersConfig(filters=20, patches=3000))
    found = features(network, train), torch.tensor(train.labels), features(network, test), torch.tensor(test.labels)
    assert knn_accuracy(*found) == 1.0


def test_pixels_are_centered_and_scaled_alike() -> None:
    store = noise(9)
    found = features(CenteredPixels.fit(store), store)
    assert found.square().sum(dim=1).mean().item() == pytest.approx(16, rel=1e-4)
    pixels = torch.tensor(store.images).permute(0, 3, 1, 2).flatten(1) / 255
    centered = pixels - pixels.mean(dim=0)
    torch.testing.assert_close(found, centered * (found.norm() / centered.norm()), atol=1e-5, rtol=1e-4)


def test_the_normalization_is_that_of_the_preprocessing() -> None:
    seen = PatchFilters(CFG, 11, 11).preprocessing
    assert (seen.mean, seen.std) == (MEAN, STD)
