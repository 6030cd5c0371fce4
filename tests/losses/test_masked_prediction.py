"""Targets and loss of masked self-distillation against loops over positions, in value and in gradient."""

import pytest
import torch
from torch import Tensor

from limbeck.losses.masked import masked_prediction, masked_targets, spread

B, P, D = 2, 7, 3


def positions(present: Tensor) -> list[tuple[int, int]]:
    return [(b, p) for b in range(B) for p in range(P) if present[b, p]]


def instance_norm(block: Tensor, present: Tensor, b: int, p: int, d: int) -> Tensor:
    column = torch.stack([block[b, q, d] for q in range(P) if present[b, q]])
    variance = sum((x - column.mean()) ** 2 for x in column) / len(column)
    return (block[b, p, d] - column.mean()) / torch.sqrt(variance + 1e-5)


def layer_norm(row: Tensor) -> Tensor:
    variance = sum((x - row.mean()) ** 2 for x in row) / D
    return (row - row.mean()) / torch.sqrt(variance + 1e-5)


@pytest.mark.parametrize("norm", ["instance", "layer", "none"])
@pytest.mark.parametrize("of_mean", [True, False])
def test_targets_are_the_mean_of_normalized_blocks(norm: str, of_mean: bool) -> None:
    blocks, present = torch.randn(2, B, P, D, dtype=torch.float64), torch.rand(B, P) < 0.8
    found = masked_targets(blocks, present, norm, of_mean)  # type: ignore[arg-type]
    for b, p in positions(present):
        rows = {
            "instance": [torch.stack([instance_norm(x, present, b, p, d) for d in range(D)]) for x in blocks],
            "layer": [layer_norm(x[b, p]) for x in blocks],
            "none": [x[b, p] for x in blocks],
        }[norm]
        mean = (rows[0] + rows[1]) / 2
        torch.testing.assert_close(found[b, p], layer_norm(mean) if of_mean else mean)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_loss_is_a_sum_over_hidden_positions_and_channels(beta: float) -> None:
    predictions = torch.randn(B, P, D, dtype=torch.float64, requires_grad=True)
    targets, hidden = torch.randn(B, P, D, dtype=torch.float64), torch.rand(B, P) < 0.5
    expected = predictions.new_zeros(())
    for b, p in positions(hidden):
        for d in range(D):
            gap = (predictions[b, p, d] - targets[b, p, d]).abs()
            error = gap**2 if not beta else gap**2 / (2 * beta) if gap < beta else gap - beta / 2
            expected = expected + error / D**0.5
    found = masked_prediction(predictions, targets, hidden, beta)
    torch.testing.assert_close(found, expected)
    pair = [torch.autograd.grad(loss, predictions)[0] for loss in (found, expected)]
    torch.testing.assert_close(*pair)
    assert not pair[0][~hidden].any()


def test_the_spread_is_that_of_the_hidden_positions() -> None:
    values, hidden = torch.randn(B, P, D, dtype=torch.float64), torch.rand(B, P) < 0.6
    expected = (values[hidden].var(dim=0) + 1e-6).sqrt().mean()
    torch.testing.assert_close(spread(values, hidden), expected)
    assert spread(torch.ones(B, P, D), hidden).item() == pytest.approx(1e-3)
