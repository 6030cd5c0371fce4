"""Sinkhorn and the swapped prediction against loops, laws and the authors' numbers: value and gradient."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.losses.assignment import prototype_scores, sinkhorn, swapped_prediction
from tests.helpers.golden import assert_allclose
from tests.helpers.loss_loops import prediction_loops, sinkhorn_loops

Golden = Callable[[str], dict[str, np.ndarray]]


def cosines(*shape: int) -> Tensor:
    return 2 * torch.rand(*shape, dtype=torch.float64) - 1


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.05, 1), (1.0, 7)])
def test_sinkhorn_equals_its_definition(epsilon: float, iterations: int) -> None:
    scores = cosines(9, 5)
    expected = sinkhorn_loops(scores, epsilon, iterations)
    torch.testing.assert_close(sinkhorn(scores, epsilon, iterations), expected, rtol=1e-10, atol=1e-12)


def test_rows_that_are_not_used_do_not_count() -> None:
    scores, used = cosines(9, 5), torch.tensor([1, 0, 1, 1, 0, 1, 1, 1, 0], dtype=torch.bool)
    codes = sinkhorn(scores, 0.05, 3, used)
    torch.testing.assert_close(codes[used], sinkhorn_loops(scores[used], 0.05, 3), rtol=1e-10, atol=1e-12)
    assert codes[~used].count_nonzero() == 0


def test_at_convergence_all_prototypes_get_the_same_mass() -> None:
    codes = sinkhorn(cosines(12, 4), 0.5, 200)
    torch.testing.assert_close(codes.sum(1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(0), torch.full((4,), 3.0, dtype=torch.float64))


def test_no_epsilon_overflows_and_half_precision_is_raised() -> None:
    """exp(1 / 0.001) has 434 digits."""
    codes = sinkhorn(cosines(9, 5).bfloat16(), 1e-3, 3)
    assert codes.dtype is torch.float32
    torch.testing.assert_close(codes.sum(1), torch.ones(9))


def test_codes_have_no_gradient() -> None:
    assert not sinkhorn(cosines(4, 3).requires_grad_(True), 0.05, 3).requires_grad


@pytest.mark.parametrize("epsilon", [0.05, 0.03])
@pytest.mark.parametrize("iterations", [3, 10])
def test_sinkhorn_of_the_authors(golden: Golden, epsilon: float, iterations: int) -> None:
    """With one process, and with two of half of the rows each."""
    g = golden("swav_sinkhorn")
    codes = sinkhorn(torch.from_numpy(g["scores"]), epsilon, iterations)
    for suffix in ("", "_ws2"):
        assert_allclose(codes, g[f"q_eps{epsilon}_it{iterations}{suffix}"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("views", [2, 5])
def test_swapped_prediction_equals_its_definition(views: int) -> None:
    scores = cosines(views, 6, 4).requires_grad_(True)
    codes = torch.softmax(cosines(2, 6, 4), dim=2)
    values = [f(scores, codes, 0.1) for f in (swapped_prediction, prediction_loops)]
    torch.testing.assert_close(*values, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(value, scores)[0] for value in values]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_a_view_does_not_predict_its_own_codes() -> None:
    scores, codes = cosines(2, 6, 4).requires_grad_(True), torch.softmax(cosines(2, 6, 4), dim=2)
    codes[1] = 0
    first, second = torch.autograd.grad(swapped_prediction(scores, codes, 0.1), scores)[0]
    assert first.count_nonzero() == 0
    assert second.count_nonzero() == second.numel()


def test_a_step_of_the_authors(golden: Golden) -> None:
    """Two crops through a linear layer: loss and gradients, including the radial part of the prototypes' gradient."""
    g = {name: torch.from_numpy(value) for name, value in golden("swav_loss_2crops").items() if value.dtype.kind == "f"}
    linear, prototypes = g["lin_w"].requires_grad_(True), g["proto_w_normalised"].requires_grad_(True)
    scores = prototype_scores(g["x"][0].flatten(0, 1) @ linear.T, prototypes).unflatten(0, (2, 4))
    codes = torch.stack([sinkhorn(view, 0.05, 3) for view in scores])
    loss = swapped_prediction(scores, codes, 0.1)
    loss.backward()
    assert_allclose(loss.item(), g["losses"][0], rtol=1e-9)
    assert_allclose(linear.grad, g["grad_lin"][0], rtol=1e-9, atol=1e-12)
    assert_allclose(prototypes.grad, g["grad_proto"][0], rtol=1e-9, atol=1e-12)
