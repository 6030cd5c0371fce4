"""CoNe's losses against loops and against the authors' numbers: value and gradient."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.losses.neighbors import class_cross_entropy, neighbor_consistency, neighbor_contrast
from tests.helpers.golden import assert_allclose
from tests.helpers.loops import cos

Golden = dict[str, np.ndarray]
BANK, CLASSES = 20, 4


def loop_contrast(queries: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, k: int, t: float) -> Tensor:
    total = queries.new_zeros(())
    for q, y in zip(queries, labels, strict=True):
        cosines = [cos(q, b) for b in bank]
        nearest = sorted(range(len(bank)), key=lambda j: -cosines[j].item())[:k]
        weights = {j: torch.exp(cosines[j] / t) for j in nearest}
        same = [weights[j] for j in nearest if bank_labels[j] == y]
        if same:
            total = total - torch.log(torch.stack(same).sum() / torch.stack([*weights.values()]).sum())
    return total / len(queries)


def loop_consistency(logits: Tensor, keys: Tensor, bank: Tensor, labels: Tensor, votes: Tensor, t: float) -> Tensor:
    total = logits.new_zeros(())
    for row, key in zip(logits, keys, strict=True):
        weights = [torch.exp(cos(key, b) / t) for b in bank]
        target = sum(w / sum(weights) * v for w, v, y in zip(weights, votes, labels, strict=True) if y >= 0)
        student = torch.exp(row) / torch.exp(row).sum()
        total = total + sum(v * (torch.log(v) - torch.log(s)) for v, s in zip(target, student, strict=True))
    return total / len(logits)


def loop_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    total = logits.new_zeros(())
    for row, y in zip(logits, labels, strict=True):
        for c, value in enumerate(torch.log(torch.exp(row) / torch.exp(row).sum())):
            total = total - value * (1 - smoothing if c == y else smoothing / (len(row) - 1))
    return total / len(logits)


@pytest.mark.parametrize("k", [3, BANK])
def test_contrast_equals_its_definition(k: int) -> None:
    """One class has no row in the bank, and some rows are of no class."""
    queries = torch.randn(6, 5, dtype=torch.float64).requires_grad_(True)
    bank, labels = torch.randn(BANK, 5, dtype=torch.float64), torch.arange(6) % CLASSES
    bank_labels = torch.arange(BANK) % (CLASSES - 1) - 1
    fast = neighbor_contrast(queries, labels, bank, bank_labels, k, 0.1)
    slow = loop_contrast(queries, labels, bank, bank_labels, k, 0.1)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(x, queries)[0] for x in (fast, slow)), rtol=1e-9, atol=1e-12)


def test_contrast_is_finite_where_the_authors_drop_a_row() -> None:
    """The authors drop an image below a weight of 1e-8; here its gradient is the largest."""
    query = torch.tensor([[1.0, 0.0]], requires_grad=True)
    bank, labels = torch.tensor([[1.0, 0.0], [-0.9, 0.1]]), torch.tensor([1, 0])
    loss = neighbor_contrast(query, torch.tensor([0]), bank, labels, 2, 0.1)
    assert 19 < loss.item() < 20
    loss.backward()
    assert query.grad is not None
    assert query.grad.norm() > 0


def test_without_a_neighbor_of_the_class_there_is_no_loss_and_no_gradient() -> None:
    query = torch.randn(1, 3, requires_grad=True)
    loss = neighbor_contrast(query, torch.tensor([0]), torch.randn(4, 3), torch.tensor([-1, 1, 1, 2]), 4, 0.1)
    loss.backward()
    assert loss == 0
    assert query.grad is not None
    assert torch.equal(query.grad, torch.zeros(1, 3))


@pytest.mark.parametrize("voters", [BANK, 7])
def test_consistency_equals_its_definition(voters: int) -> None:
    logits = torch.randn(6, CLASSES, dtype=torch.float64).requires_grad_(True)
    keys, bank = torch.randn(6, 5, dtype=torch.float64), torch.randn(BANK, 5, dtype=torch.float64)
    votes = torch.randn(BANK, CLASSES, dtype=torch.float64).softmax(1)
    labels = torch.where(torch.arange(BANK) < voters, 0, -1)
    fast = neighbor_consistency(logits, keys, bank, labels, votes, 0.07)
    slow = loop_consistency(logits, keys, bank, labels, votes, 0.07)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (fast, slow)), rtol=1e-9, atol=1e-12)


def test_a_bank_without_votes_gives_no_loss_and_no_gradient() -> None:
    """Before the first enqueue, the rows of a queue are noise and not probabilities."""
    logits, no_labels = torch.randn(2, CLASSES, requires_grad=True), torch.full((4,), -1)
    loss = neighbor_consistency(logits, torch.randn(2, 3), torch.randn(4, 3), no_labels, torch.randn(4, CLASSES), 0.07)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_equals_its_definition(smoothing: float) -> None:
    logits, labels = torch.randn(6, CLASSES, dtype=torch.float64).requires_grad_(True), torch.arange(6) % CLASSES
    fast = class_cross_entropy(logits, labels, smoothing)
    slow = loop_cross_entropy(logits, labels, smoothing)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (fast, slow)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_three_losses_of_the_authors(golden: Callable[[str], Golden], smoothing: float) -> None:
    """The authors' gradients are with respect to the images x, through two linear layers."""
    g = {k: torch.from_numpy(v) for k, v in golden("cone").items() if v.dtype.kind in "fi"}
    x, bank = g["x"].clone().requires_grad_(True), g["init_queue"].T
    embedding = x @ g["init_encoder_q.head.weight"].T + g["init_encoder_q.head.bias"]
    logits = embedding @ g["init_encoder_q.fc.weight"].T + g["init_encoder_q.fc.bias"]
    knn, t_sup, t_dc = int(g["knn_k"]), float(g["t_sup"]), float(g["t_dc"])
    votes = g["init_queue_label_prob"].T
    losses = {
        "fc": class_cross_entropy(logits, g["y"], smoothing),
        "sup": neighbor_contrast(embedding, g["y"], bank, g["init_queue_label"], knn, t_sup),
        "dc": neighbor_consistency(logits, g["emb_k_norm"], bank, g["init_queue_label"], votes, t_dc),
    }
    for name, loss in losses.items():
        assert_allclose(loss.detach(), g[f"ls{smoothing}_loss_{name}"], rtol=1e-9)
        grad = torch.autograd.grad(loss, x, retain_graph=True)[0]
        assert_allclose(grad, g[f"ls{smoothing}_grad_x_{name}"], rtol=1e-8, atol=1e-9)
