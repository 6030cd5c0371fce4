"""Video segmentation against numbers of DINO's propagation and of DAVIS' scores, and against loops."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.metrics import label_propagation
from limbeck.metrics.label_propagation import hard_labels, propagate, scale_classes
from limbeck.metrics.regions import boundary_accuracy, region_similarity, statistics
from tests.helpers.golden import Golden, assert_allclose


def given(truth: Golden) -> tuple[Tensor, Tensor]:
    """Return the feature maps [frames D h w] and the labels [frames - 1 C h w]."""
    maps = torch.from_numpy(truth["features"]).mT.unflatten(2, truth["grid"].tolist())
    return maps, torch.from_numpy(truth["segmentations"])


@pytest.mark.parametrize("tile", [2, 16])
def test_labels_are_those_of_the_authors(
    golden: Callable[[str], Golden], monkeypatch: pytest.MonkeyPatch, tile: int
) -> None:
    monkeypatch.setattr(label_propagation, "TILE", tile)
    truth = golden("label_propagation")
    maps, labels = given(truth)
    radius, top, temperature = int(truth["radius"]), int(truth["topk"]), float(truth["temperature"])
    found = propagate(maps[-1], maps[:-1], labels, radius=radius, top=top, temperature=temperature)
    assert_allclose(found, truth["propagated"], rtol=1e-7, atol=1e-9)
    size = tuple(truth["labels"].shape)
    large = torch.nn.functional.interpolate(found[None], size=size, mode="bilinear")[0]
    assert_allclose(scale_classes(large), truth["upsampled_normalised"], rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(hard_labels(found, size), truth["labels"])


def test_propagation_is_a_loop_over_places() -> None:
    maps, labels = torch.randn(3, 4, 5, 6, dtype=torch.float64), torch.rand(2, 3, 5, 6, dtype=torch.float64)
    found = propagate(maps[-1], maps[:-1], labels, radius=1, top=3, temperature=0.5)
    unit = maps / maps.norm(dim=1, keepdim=True)
    for y, x in product(range(5), range(6)):
        near = [(n, v, u) for n in (0, 1) for v in range(5) for u in range(6) if abs(v - y) <= 1 and abs(u - x) <= 1]
        cosines = {(n, v, u): float(unit[2, :, y, x] @ unit[n, :, v, u]) for n, v, u in near}
        best = sorted(near, key=lambda place: -cosines[place])[:3]
        weights = [np.exp(cosines[place] / 0.5) for place in best]
        mean = sum(w * labels[n, :, v, u] for w, (n, v, u) in zip(weights, best, strict=True)) / sum(weights)
        assert_allclose(found[:, y, x], mean, rtol=1e-9)


def test_scores_are_those_of_the_authors(golden: Callable[[str], Golden]) -> None:
    truth = golden("region_boundary")
    shape = tuple(truth["shape"].tolist())
    real, found = (np.unpackbits(truth[name], axis=-1, count=shape[2]).astype(bool) for name in ("truth", "found"))
    for name, score in (("J", region_similarity), ("F", boundary_accuracy)):
        scores = np.array([score(*pair) for pair in zip(found, real, strict=True)])
        assert_allclose(scores, truth[name], rtol=1e-7, atol=1e-9)
        assert_allclose(np.array(statistics(scores)), truth[f"{name}_mean_recall_decay"], rtol=1e-7, atol=1e-9)


def test_known_boundaries() -> None:
    square = np.zeros((200, 200), bool)
    square[50:100, 50:100] = True
    empty = np.zeros_like(square)
    assert boundary_accuracy(square, square) == 1
    assert boundary_accuracy(np.roll(square, 3, axis=1), square) == 1, "3 pixels are within 0.8 % of the diagonal"
    assert boundary_accuracy(np.roll(square, 4, axis=1), square) < 1
    assert (boundary_accuracy(empty, square), boundary_accuracy(square, empty), boundary_accuracy(empty, empty)) == (
        0,
        0,
        1,
    )
    assert (region_similarity(empty, square), region_similarity(empty, empty)) == (0, 1)
