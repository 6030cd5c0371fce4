"""Keypoints and edges against loops over pixels and the authors' numbers, in value and in gradient."""

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.losses.edges import GAIN, SAME_POINT, edge_map, edge_weights, soft_argmax
from tests.helpers.golden import GOLDEN, assert_allclose


def leaf(numbers: np.ndarray) -> Tensor:
    return torch.from_numpy(numbers).requires_grad_()


def test_keypoints_are_the_authors() -> None:
    numbers = np.load(GOLDEN / "soft_argmax.npz")
    logits = leaf(numbers["logits"])
    keypoints = soft_argmax(logits)
    assert_allclose(keypoints, numbers["keypoints"])
    (keypoints * torch.from_numpy(numbers["cotangent"])).sum().backward()
    assert_allclose(logits.grad, numbers["grad_logits"], atol=1e-9)


@pytest.mark.parametrize("name", ["edge_map", "edge_map_zero_length"])
def test_edges_are_the_authors(name: str) -> None:
    numbers = np.load(GOLDEN / f"{name}.npz")
    keypoints, scores = leaf(numbers["keypoints"]), leaf(numbers["scalars"])
    weights = edge_weights(scores)
    drawn = edge_map(keypoints, weights, float(numbers["thick"]), int(numbers["size"]))
    assert_allclose(drawn, numbers["edge_map"], atol=1e-9)
    (drawn * torch.from_numpy(numbers["cotangent"])).sum().backward()
    assert_allclose(keypoints.grad, numbers["grad_keypoints"], 1e-6, 1e-9)
    assert_allclose(scores.grad, numbers["grad_scalars"], atol=1e-9)


def test_keypoints_are_mean_places() -> None:
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows, columns = np.linspace(-1, 1, 4), np.linspace(-1, 1, 5)
    expected = []
    for image in maps:
        for heat in image:
            weights = heat.exp() / heat.exp().sum()
            places = [(weights[i, j], rows[i], columns[j]) for i in range(4) for j in range(5)]
            expected += [sum(w * r for w, r, _ in places), sum(w * c for w, _, c in places)]
    same(soft_argmax(maps).flatten(), torch.stack([torch.as_tensor(value) for value in expected]), maps)


def test_a_pixel_is_the_maximum_over_edges() -> None:
    generator = torch.Generator().manual_seed(1)
    keypoints = (2 * torch.rand(2, 3, 2, dtype=torch.float64, generator=generator) - 1).requires_grad_()
    scores, grid = torch.randn(3, 3, dtype=torch.float64, generator=generator) / GAIN, np.linspace(-1, 1, 5)
    expected = []
    for points in keypoints:
        for at in (torch.tensor([r, c]) for r in grid for c in grid):
            values = []
            for i, j in ((0, 1), (0, 2), (1, 2)):
                along = points[j] - points[i]
                t = ((at - points[i]) @ along / (SAME_POINT + along @ along)).clamp(0, 1)
                distance = (at - points[i] - t * along).square().sum()
                values.append((1 + (GAIN * scores[i, j]).exp()).log() * (-distance / 0.1).exp())
            expected.append(torch.stack(values).max())
    same(edge_map(keypoints, edge_weights(scores), 0.1, 5).flatten(), torch.stack(expected), keypoints)


def same(found: Tensor, expected: Tensor, inputs: Tensor) -> None:
    """Compare values, and the gradients of a random projection of them."""
    torch.testing.assert_close(found, expected)
    cotangent = torch.randn(len(found), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    pair = [torch.autograd.grad((values * cotangent).sum(), inputs)[0] for values in (found, expected)]
    torch.testing.assert_close(*pair)
