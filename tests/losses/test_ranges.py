"""The peak-to-RMS of channels against loops, and where its penalty begins."""

import pytest
import torch
from torch import Tensor

from limbeck.losses.ranges import channel_ranges, peak_to_rms, range_penalty


def loop(maps: Tensor, bound: float) -> Tensor:
    """Compute the penalty channel by channel."""
    total = maps.new_zeros(())
    for channel in maps.flatten(2).unbind(1):
        ratio = channel.abs().max() / channel.square().mean().sqrt()
        total = total + (torch.log(ratio / bound) ** 2 if ratio > bound else 0.0)
    return total / maps.shape[1]


@pytest.mark.parametrize("shape", [(4, 6, 3, 2), (4, 6, 5)])
def test_equals_its_definition(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    maps = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ratios = peak_to_rms(*channel_ranges(maps))
    bound = ratios.median().item() * 1.001  # some channels are above it, and some below
    losses = [range_penalty(*channel_ranges(maps), bound), loop(maps, bound)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=0)
    assert losses[1] > 0
    torch.testing.assert_close(*(torch.autograd.grad(loss, maps)[0] for loss in losses), rtol=1e-3, atol=1e-6)


def test_silent_channels_have_no_range_and_a_finite_gradient() -> None:
    maps = torch.zeros(2, 3, 2, 2)
    maps[:, 0] = 1.0
    maps.requires_grad_()
    assert peak_to_rms(*channel_ranges(maps)).tolist() == pytest.approx([1.0, 0.0, 0.0])
    penalty = range_penalty(*channel_ranges(maps), 1.0)
    penalty.backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
