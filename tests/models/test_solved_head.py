"""A solved head is the ridge regression on weighted batches, by its normal equations in float64."""

import torch
from torch import Tensor

from limbeck.models.solved_head import SolvedHead

DECAY, RIDGE = 0.8, 0.1


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    mixture = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    found = []
    for _ in range(4):
        x = torch.randn(20, 5, generator=generator, dtype=torch.float64) + 2
        found.append((x, x @ mixture + 0.1 * torch.randn(20, 3, generator=generator, dtype=torch.float64)))
    return found


def test_it_is_the_ridge_regression_of_all_rows_with_the_weights_of_their_steps() -> None:
    head = SolvedHead(5, 3, DECAY, RIDGE).double()
    for x, y in batches():
        head.update(x, y)
    head.solve()
    rows = [(DECAY ** (3 - step) / 20, *row) for step, b in enumerate(batches()) for row in zip(*b, strict=True)]
    total = sum(weight for weight, _, _ in rows)
    mean_x = sum((w * x for w, x, _ in rows), torch.zeros(5)) / total
    mean_y = sum((w * y for w, _, y in rows), torch.zeros(3)) / total
    covariance, cross = torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, 3, dtype=torch.float64)
    for weight, x, y in rows:
        covariance += weight / total * torch.outer(x - mean_x, x - mean_x)
        cross += weight / total * torch.outer(x - mean_x, y - mean_y)
    ridge = RIDGE * covariance.diagonal().mean()
    expected = torch.linalg.solve(covariance + ridge * torch.eye(5, dtype=torch.float64), cross)
    torch.testing.assert_close(head.weight, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(head(mean_x[None])[0], mean_y, rtol=1e-9, atol=1e-11)


def test_moments_alone_change_nothing_that_it_computes() -> None:
    head, (x, y) = SolvedHead(5, 3, DECAY, RIDGE).double(), batches()[0]
    before = head(x)
    head.update(x, y)
    assert torch.equal(head(x), before)
    head.solve()
    assert not torch.equal(head(x), before)
