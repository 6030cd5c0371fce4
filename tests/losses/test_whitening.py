"""Whitening and the loss of W-MSE against loops and against the authors' numbers: value and gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.losses.whitening import w_mse, whiten
from tests.helpers.golden import assert_allclose
from tests.helpers.loss_loops import w_mse_loops, whiten_loops

Golden = Callable[[str], dict[str, np.ndarray]]


def random(*shape: int) -> Tensor:
    """Return correlated columns of different sizes, in float64."""
    return (torch.randn(shape, dtype=torch.float64) @ torch.randn(shape[-1], shape[-1], dtype=torch.float64)) + 3


@pytest.mark.parametrize("shrinkage", [0.0, 0.05])
def test_whitening_equals_its_definition(shrinkage: float) -> None:
    x, weight = random(2, 7, 3).requires_grad_(True), random(2, 7, 3)
    fast, slow = whiten(x, shrinkage), torch.stack([whiten_loops(one, shrinkage) for one in x])
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-11)
    gradients = (torch.autograd.grad(z, x, weight)[0] for z in (fast, slow))
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("shrinkage", [0.0, 0.05])
def test_the_gradient_is_that_of_finite_differences(shrinkage: float) -> None:
    assert torch.autograd.gradcheck(lambda x: whiten(x, shrinkage), random(2, 3, 7, 4).requires_grad_(True))


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_loss_equals_its_definition(count: int, euclidean: bool) -> None:
    views = random(count, 5, 3).requires_grad_(True)
    fast, slow = w_mse(views, views, euclidean), w_mse_loops(views, euclidean)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    gradients = (torch.autograd.grad(loss, views)[0] for loss in (fast, slow))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("euclidean", [False, True])
def test_queries_are_compared_with_the_other_views_of_the_targets(euclidean: bool) -> None:
    queries, targets = random(3, 5, 4).requires_grad_(True), random(3, 5, 4).requires_grad_(True)
    pairs = [(queries[i], targets[j]) for i in range(3) for j in range(3) if i != j]
    slow = torch.stack([w_mse_loops(torch.stack(pair), euclidean) for pair in pairs]).mean()
    fast = w_mse(queries, targets, euclidean)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    gradients = (torch.autograd.grad(loss, (queries, targets)) for loss in (fast, slow))
    for pair in zip(*gradients, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "case", ["v16c6", "v16c6_eps1e-1", "v16c6_eps1e-3", "v5c4_min", "v32c16", "v64c16_ill", "v128c64"]
)
def test_whitening_of_the_authors(golden: Golden, case: str) -> None:
    g = golden("wmse_whitening")
    x = torch.from_numpy(g[f"{case}/x"]).requires_grad_(True)
    z = whiten(x, float(g[f"{case}/eps"]))
    (gradient,) = torch.autograd.grad(z, x, torch.from_numpy(g[f"{case}/gy"]))
    rtol, atol = (1e-6, 1e-6) if case.endswith("ill") else (1e-7, 1e-9)
    assert_allclose(z.detach(), g[f"{case}/y"], rtol, atol)
    assert_allclose(gradient, g[f"{case}/gx"], rtol, atol)


def test_float32_is_as_near_to_float64_as_the_authors(golden: Golden) -> None:
    """The condition number is 2e6: float32 is off by 0.013 in the authors' code, and with any order of sums."""
    g = golden("wmse_whitening")
    x = torch.from_numpy(g["v128c64/x"]).float().requires_grad_(True)
    z = whiten(x)
    (gradient,) = torch.autograd.grad(z, x, torch.from_numpy(g["v128c64/gy"]).float())
    assert z.dtype is gradient.dtype is torch.float32
    for found, name in ((z.detach(), "y"), (gradient, "gx")):
        wanted, exact = g[f"v128c64_f32/{name}"], g[f"v128c64/{name}"]
        assert np.abs(found.numpy() - wanted).max() < 3 * np.abs(wanted - exact).max()


def test_whitened_columns_are_uncorrelated_and_of_unit_variance() -> None:
    z = whiten(random(3, 20, 6))
    assert_allclose(z.mean(-2), 0, atol=1e-12)
    assert_allclose(z.mT @ z / 19, np.broadcast_to(np.eye(6), (3, 6, 6)), atol=1e-10)


def test_it_is_gram_schmidt_over_the_columns() -> None:
    """It is sqrt(B - 1) Q of the QR decomposition of the centered slice, with a positive diagonal of R."""
    x = random(20, 6)
    q, r = torch.linalg.qr(x - x.mean(0))
    torch.testing.assert_close(whiten(x), 19**0.5 * q * r.diagonal().sign(), rtol=1e-9, atol=1e-10)


def test_invariances() -> None:
    x, order = random(20, 6), torch.randperm(20)
    mixed = torch.randn(6, 6, dtype=torch.float64).tril() + 4 * torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(whiten(x @ mixed.T + 7), whiten(x), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(whiten(x[order]), whiten(x)[order], rtol=1e-9, atol=1e-10)
    turned = whiten(x @ torch.randn(6, 6, dtype=torch.float64))
    rotation = whiten(x).mT @ turned / 19
    assert_allclose(rotation.mT @ rotation, np.eye(6), atol=1e-9)
    assert_allclose(whiten(x) @ rotation, turned, atol=1e-9)


def test_the_gradient_is_orthogonal_to_the_invariances() -> None:
    """There is no slope along shifts and lower triangular maps."""
    x = random(20, 6).requires_grad_(True)
    (gradient,) = torch.autograd.grad(whiten(x), x, random(20, 6))
    assert_allclose(gradient.sum(0), 0, atol=1e-10)
    assert_allclose((gradient.mT @ x.detach()).tril(), 0, atol=1e-9)


def test_a_slice_that_cannot_be_whitened_is_nan_and_the_others_are_not() -> None:
    x = random(2, 20, 6)
    x[1, :, 3] = 5.0
    z = whiten(x)
    assert z[0].isfinite().all()
    assert z[1].isnan().all()
    assert whiten(x, shrinkage=0.01).isfinite().all()


def test_equal_views_have_no_distance_and_unrelated_ones_two() -> None:
    z = torch.randn(2, 2000, 8, dtype=torch.float64)
    assert w_mse(z[:1].repeat(3, 1, 1), z[:1].repeat(3, 1, 1)).item() == pytest.approx(0, abs=1e-12)
    assert w_mse(z, z).item() == pytest.approx(2, abs=0.05)
    assert w_mse(z, z, euclidean=True).item() == pytest.approx(2, abs=0.1)


def test_autocast_changes_nothing() -> None:
    """This includes a backward pass inside of autocast, and rows in half precision."""
    x, weight = torch.randn(3, 32, 8).requires_grad_(True), torch.randn(3, 32, 8)
    outside = whiten(x)
    with torch.autocast("cpu", torch.bfloat16):
        inside = whiten(x)
        (gradient,) = torch.autograd.grad(inside, x, weight)
        assert w_mse(inside, inside).dtype is torch.float32
    assert torch.equal(inside, outside)
    assert torch.equal(gradient, torch.autograd.grad(outside, x, weight)[0])
    assert torch.equal(whiten(x.bfloat16()), whiten(x.bfloat16().float()))


class Precisions(TorchDispatchMode):
    """Record the allowed precision of every matrix product."""

    found: set[str]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        backends: Any = torch.backends  # its types lack `mkldnn.matmul`
        if "mm" in func.__name__:
            self.found |= {backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision}
        return func(*args, **(kwargs or {}))


def test_products_are_in_float32_where_the_program_allows_less() -> None:
    x, mode = torch.randn(3, 32, 8).requires_grad_(True), Precisions()
    mode.found = set()
    torch.set_float32_matmul_precision("medium")
    try:
        with mode:
            torch.autograd.grad(whiten(x), x, torch.randn(3, 32, 8))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert mode.found == {"ieee"}
