"""The cosine distance against its definition and against the authors' numbers: value and gradient."""

from collections.abc import Callable

import numpy as np
import torch

from limbeck.losses.alignment import cosine_distance
from tests.helpers.golden import assert_allclose


def test_equals_its_definition() -> None:
    p, t = torch.randn(2, 7, 5, dtype=torch.float64).requires_grad_(True)
    slow = torch.stack([2 - 2 * (a @ b) / (a.norm() * b.norm()) for a, b in zip(p, t, strict=True)]).sum() / 7
    for a, b in zip(torch.autograd.grad(cosine_distance(p, t), (p, t)), torch.autograd.grad(slow, (p, t)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_byol_of_the_sdssl_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    g = golden("sdssl_byol_loss")
    p, z = torch.from_numpy(g["in/p"]).requires_grad_(True), torch.from_numpy(g["in/z"])
    value = cosine_distance(p, z)
    value.backward()
    assert_allclose(value.item(), g["out/mean"], rtol=1e-7)
    assert_allclose(p.grad, g["out/grad_p_of_mean"], rtol=1e-7, atol=1e-9)
