"""The CKA distance against loops over pairs, triples and quadruples of different rows: value and gradient."""

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.kernel_alignment import cka_distance


def hsic(k: Tensor, other: Tensor) -> Tensor:
    """Return the mean over quadruples of different rows: the definition of which the estimate is the closed form."""
    terms = [
        k[a, b] * other[a, b] + k[a, b] * other[c, d] - 2 * k[a, b] * other[a, c]
        for a, b, c, d in permutations(range(len(k)), 4)
    ]
    return torch.stack(terms).mean()


def distance(first: Tensor, second: Tensor) -> Tensor:
    kernels = [F.normalize(rows, dim=1) @ F.normalize(rows, dim=1).T for rows in (first, second)]
    return 1 - hsic(*kernels) / (hsic(kernels[0], kernels[0]) * hsic(kernels[1], kernels[1])).sqrt()


def test_equals_its_definition() -> None:
    first = torch.randn(6, 4, dtype=torch.float64).requires_grad_(True)
    second = torch.randn(6, 3, dtype=torch.float64).requires_grad_(True)
    values = cka_distance(first, second), distance(first, second)
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-11)
    gradients = [torch.autograd.grad(value, (first, second)) for value in values]
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-8, atol=1e-10)


def test_rotation_and_length_do_not_count_and_chance_is_one() -> None:
    rows = torch.randn(64, 8, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))
    turned = rows @ rotation * torch.rand(64, 1, dtype=torch.float64).add(0.5)
    torch.testing.assert_close(cka_distance(rows, turned), torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0)
    chance = [cka_distance(torch.randn(32, 64), torch.randn(32, 64)) for _ in range(50)]
    assert abs(torch.stack(chance).mean() - 1) < 0.02
