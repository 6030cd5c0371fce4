"""Smooth-AP against loops, exact average precision and the authors' numbers: value and gradient."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from limbeck.losses.ranking import smooth_ap
from tests.helpers.golden import assert_allclose
from tests.helpers.loss_loops import smooth_ap_loops


def problem(images: int, views: int, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Return view-major rows that are similar within an image, their positives, and their own indices."""
    rows = torch.arange(images * views)
    others = torch.stack([(rows + k * images) % len(rows) for k in range(1, views)], 1)
    x = torch.randn(images, dim, dtype=torch.float64).repeat(views, 1)
    return (x + torch.randn_like(x)).requires_grad_(True), others, rows


@pytest.mark.parametrize("t", [0.05, 1.0])
@pytest.mark.parametrize("views", [2, 4])
def test_equals_its_definition(t: float, views: int) -> None:
    """Queries and gallery are different tensors, so that each gradient is compared."""
    queries, positives, rows = problem(4, views)
    gallery = (queries.detach() + 0.1 * torch.randn_like(queries)).requires_grad_(True)
    fast = smooth_ap(queries, gallery, positives, rows, t)
    slow = smooth_ap_loops(
        queries, gallery, positives.tolist(), [[j for j in rows.tolist() if j != i] for i in rows], t
    )
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    pairs = zip(*(torch.autograd.grad(loss, (queries, gallery)) for loss in (fast, slow)), strict=True)
    for pair in pairs:
        torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("t", [0.01, 0.1, 1.0])
def test_smooth_ap_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]], t: float) -> None:
    """There a query also ranks itself, as a positive: here it excludes an additional row instead of itself."""
    g = golden("smooth_ap")
    x = torch.from_numpy(g["x_raw"]).requires_grad_(True)
    additional = torch.ones(1, 5, dtype=torch.float64)
    positives = torch.arange(12).view(3, 4).repeat_interleave(4, 0)
    loss = smooth_ap(x, torch.cat([x, additional]), positives, torch.full((12,), 12), t)
    loss.backward()
    assert_allclose(loss.item(), g[f"loss_tau{t}_l2"], rtol=1e-9)
    assert_allclose(x.grad, g[f"grad_tau{t}_l2"], rtol=1e-7, atol=1e-10)


def test_tends_to_the_exact_average_precision() -> None:
    x, positives, rows = problem(16, 4)
    unit = torch.nn.functional.normalize(x.detach())
    exact = []
    for i in rows.tolist():
        others = [j for j in rows.tolist() if j != i]
        exact.append(average_precision_score([j in positives[i] for j in others], (unit[others] @ unit[i]).numpy()))
    gaps = [
        abs(1 - smooth_ap(x, x, positives, rows, t).item() - float(np.mean(exact))) for t in (0.1, 0.01, 1e-3, 1e-6)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-6


def test_chunks_change_nothing() -> None:
    x, positives, rows = problem(5, 3)
    whole, parts = (smooth_ap(x, x, positives, rows, 0.1, chunk) for chunk in (256, 4))
    torch.testing.assert_close(whole, parts, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (whole, parts)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_a_query_does_not_rank_itself() -> None:
    """Its own row of the gallery does not matter."""
    x, positives, rows = problem(5, 3)
    queries = x.detach()[:1]
    moved = x.detach().clone()
    moved[0] = -moved[0]
    losses = [smooth_ap(queries, gallery, positives[:1], rows[:1], 0.1) for gallery in (x.detach(), moved)]
    assert torch.equal(*losses)
