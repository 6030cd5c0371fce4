"""InfoNCE against its definition as loops and against the authors' numbers: value and gradient."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from limbeck.losses.contrastive import info_nce, info_nce_per_positive, sup_con
from tests.helpers.golden import assert_allclose
from tests.helpers.loss_loops import info_nce_loops, sup_con_loops


@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize("t", [0.1, 1.0])
def test_equals_its_definition(leave_out: bool, t: float) -> None:
    queries, candidates = torch.randn(2, 8, 5, dtype=torch.float64).requires_grad_(True)
    positives, exclude = torch.arange(8).roll(3), torch.arange(8) if leave_out else None
    fast = torch.autograd.grad(info_nce(queries, candidates, positives, t, exclude), (queries, candidates))
    slow = torch.autograd.grad(info_nce_loops(queries, candidates, positives, t, exclude), (queries, candidates))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_separate_positive_is_a_candidate_of_its_query_alone() -> None:
    """One query at a time, with its positive as one more candidate."""
    queries, keys = torch.randn(2, 8, 5, dtype=torch.float64).requires_grad_(True)
    queue = torch.randn(20, 5, dtype=torch.float64).requires_grad_(True)
    last = torch.tensor([20])
    alone = [
        info_nce_loops(q[None], torch.cat([queue, k[None]]), last, 0.2) for q, k in zip(queries, keys, strict=True)
    ]
    fast = torch.autograd.grad(info_nce(queries, queue, keys, 0.2), (queries, queue, keys))
    slow = torch.autograd.grad(torch.stack(alone).mean(), (queries, queue, keys))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_queue_of_the_moby_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    """This is the loss of MoCo."""
    g = golden("moby")
    queries = torch.from_numpy(g["cl_q_raw"]).requires_grad_(True)
    keys, queue = torch.from_numpy(g["cl_k_raw"]), torch.from_numpy(g["cl_queue"].T)
    value = info_nce(queries, queue, keys, float(g["temp"]))
    value.backward()
    assert_allclose(value.item(), g["cl_loss"], rtol=1e-9)
    assert_allclose(queries.grad, g["cl_grad_q_raw"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("queries", "loss"), [("q_final", "loss_final"), ("q_mid", "loss_mid"), ("q_all12", "loss_all12")]
)
def test_moco_v3_of_the_authors(golden: Callable[[str], dict[str, np.ndarray]], queries: str, loss: str) -> None:
    """Rows are layer-major: the rows of a layer are matched with the keys of the same images."""
    g = golden("sdssl_moco_loss")
    q = torch.from_numpy(g[f"in/{queries}"]).requires_grad_(True)
    k = torch.from_numpy(g["in/k"]).requires_grad_(True)
    layers = [2 * 0.2 * info_nce(rows, k, torch.arange(5), 0.2) for rows in q.split(5)]
    value = torch.stack(layers).mean()
    value.backward()
    assert_allclose(value.item(), g[f"out/{loss}"], rtol=1e-7)
    assert_allclose(q.grad, g[f"out/grad_{queries}"], rtol=1e-7, atol=1e-9)
    if queries == "q_final":
        assert_allclose(k.grad, g["out/grad_k_from_final"], rtol=1e-7, atol=1e-9)


def test_simclr_of_the_sdssl_authors(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    """NT-Xent at the last layer, and the layers against the last layer without its gradient.

    The golden gradients are with respect to rows of unit length; gradients through the normalization lack the
    radial part, so the comparison removes it from the golden ones as well.
    """
    g = golden("sdssl_simclr_loss")
    final, mid = (torch.from_numpy(g[f"in/z_{n}"]).requires_grad_(True) for n in ("final", "mid"))
    rows = torch.arange(10)
    last = info_nce(final, final, rows.roll(5), 0.2, rows)
    layers = torch.stack([info_nce(z, final.detach(), rows.roll(5), 0.2, rows) for z in mid.split(10)]).mean()
    (last + layers).backward()
    assert_allclose(last.item(), g["out/loss_final"], rtol=1e-7)
    assert_allclose(layers.item(), g["out/loss_mid"], rtol=1e-7)
    for z, name in ((final, "final"), (mid, "mid")):
        wanted, unit = g[f"out/grad_z_{name}"], z.detach().numpy()
        tangent = wanted - (wanted * unit).sum(1, keepdims=True) * unit
        assert_allclose(z.grad, tangent, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("case", ["norm_tau05", "norm_tau01"])
def test_contrastive_of_the_wmse_authors(golden: Callable[[str], dict[str, np.ndarray]], case: str) -> None:
    """Two views of 12 images, both directions."""
    g = golden("wmse_contrastive")
    x0, x1 = (torch.from_numpy(g[f"{case}/x{i}"]).requires_grad_(True) for i in (0, 1))
    both, rows = torch.cat([x0, x1]), torch.arange(24)
    value = info_nce(both, both, rows.roll(12), float(g[f"{case}/tau"]), rows)
    value.backward()
    assert_allclose(value.item(), g[f"{case}/loss"], rtol=1e-7)
    assert_allclose(x0.grad, g[f"{case}/g0"], rtol=1e-7, atol=1e-9)
    assert_allclose(x1.grad, g[f"{case}/g1"], rtol=1e-7, atol=1e-9)


def test_several_positives_are_no_negatives_of_each_other() -> None:
    """Each set of positives gives InfoNCE on its own."""
    queries, bank = torch.randn(6, 4, dtype=torch.float64).requires_grad_(True), torch.randn(9, 4, dtype=torch.float64)
    bank, positives = torch.nn.functional.normalize(bank, dim=1), torch.randn(3, 6, 4, dtype=torch.float64)
    found, each = (
        info_nce_per_positive(queries, bank, positives, 0.2),
        [info_nce(queries, bank, p, 0.2) for p in positives],
    )
    torch.testing.assert_close(found, torch.stack(each))
    for one, other in zip(found, each, strict=True):
        gradients = (torch.autograd.grad(loss, queries, retain_graph=True)[0] for loss in (one, other))
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("t", [0.1, 1.0])
def test_several_positives_equal_their_definition(t: float) -> None:
    """It does not matter whether a query counts itself among its positives."""
    queries, candidates = torch.randn(2, 8, 5, dtype=torch.float64).requires_grad_(True)
    labels, rows = torch.tensor([0, 1, 0, 1, 2, 2, 0, 1]), torch.arange(8)
    same = labels[:, None] == labels
    gradients = [
        torch.autograd.grad(f(queries, candidates, positives, t, rows), (queries, candidates))
        for f in (sup_con, sup_con_loops)
        for positives in (same, same & ~torch.eye(8, dtype=torch.bool))
    ]
    for found in gradients[1:]:
        for pair in zip(found, gradients[0], strict=True):
            torch.testing.assert_close(*pair, rtol=1e-10, atol=1e-12)
    values = [f(queries, candidates, same, t, rows) for f in (sup_con, sup_con_loops)]
    torch.testing.assert_close(*values, rtol=1e-10, atol=1e-12)


def test_autocast_changes_nothing() -> None:
    queries, candidates, rows = torch.randn(6, 4), torch.randn(6, 4), torch.arange(6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = info_nce(queries, candidates, rows, 0.2)
    assert inside.dtype is torch.float32
    assert math.isclose(inside.item(), info_nce(queries, candidates, rows, 0.2).item(), rel_tol=1e-7)
