"""Costs that can be counted by hand."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.metrics.cost import cost


class Attention(nn.Module):
    """Scaled dot-product attention of an image's rows with themselves."""

    def forward(self, x: Tensor) -> Tensor:
        """[1 C H W] -> [1 C H W]."""
        return F.scaled_dot_product_attention(x, x, x)


def test_a_convolution_costs_two_operations_per_multiplication() -> None:
    found = cost(nn.Conv2d(3, 8, kernel_size=3, padding=1), torch.rand(1, 3, 16, 16), latency=False)
    assert found.parameters == 8 * (3 * 9 + 1)
    assert found.gflops * 1e9 == 2 * 16 * 16 * 8 * 3 * 9
    assert found.latency_ms is None


def test_fused_attention_is_counted_as_its_two_products() -> None:
    found = cost(Attention(), torch.rand(1, 3, 16, 8), latency=False)
    assert found.gflops * 1e9 == 2 * 3 * (16 * 16 * 8) * 2


def test_latency_is_measured_when_asked_for() -> None:
    latency = cost(nn.Flatten(), torch.rand(1, 3, 4, 4)).latency_ms
    assert latency is not None
    assert latency > 0
