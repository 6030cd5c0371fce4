"""The total coding rate against its definition, and where its value is known."""

import math

import pytest
import torch

from limbeck.losses.coding_rate import total_coding_rate
from tests.helpers.loss_loops import empssl_loops


@pytest.mark.parametrize("epsilon", [0.2, 1.0])
def test_equals_its_definition(epsilon: float) -> None:
    views = torch.randn(3, 6, 4, dtype=torch.float64, requires_grad=True)
    values = -total_coding_rate(views, epsilon), empssl_loops(views, 0.0, epsilon)
    torch.testing.assert_close(*values, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(value, views)[0] for value in values]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-11)


def test_equal_rows_have_the_least_rate_and_even_ones_the_most() -> None:
    even = torch.eye(4, dtype=torch.float64)[None]
    equal = even[:, :1].expand(1, 4, 4)
    torch.testing.assert_close(float(total_coding_rate(equal, 0.5)), math.log(1 + 4 / 0.5) / 2)
    torch.testing.assert_close(float(total_coding_rate(3 * even, 0.5)), 4 * math.log(1 + 1 / 0.5) / 2)


def test_half_precision_is_raised() -> None:
    assert total_coding_rate(torch.randn(2, 4, 3).bfloat16(), 0.2).dtype is torch.float32
