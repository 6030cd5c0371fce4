"""Bound the range of activations: how far the largest value of a channel is above its root mean square."""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import full_precision

SILENT = 1e-6  # of the mean square of all channels: below it a channel has no range worth a penalty


def channel_ranges(maps: Float[Tensor, "B C *places"]) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """Return the largest absolute value and the mean square of every channel of every image, in float32 or more."""
    values = maps.flatten(2)
    values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    return values.abs().amax(dim=2), values.square().mean(dim=2)


@full_precision
def peak_to_rms(peaks: Float[Tensor, "B C"], mean_squares: Float[Tensor, "B C"]) -> Float[Tensor, " C"]:
    """Return, for each channel over all images, the largest absolute value in units of the root mean square.

    It is 1 for a channel of constant size, and 0 for one that is (nearly) silent.
    """
    square = mean_squares.mean(dim=0)
    floor = (SILENT * square.detach().mean()).clamp_min(torch.finfo(torch.float16).tiny ** 2)
    return peaks.amax(dim=0) / (square + floor).sqrt()


def range_penalty(peaks: Float[Tensor, "B C"], mean_squares: Float[Tensor, "B C"], bound: float) -> Float[Tensor, ""]:
    """Return the mean over channels of log(r / bound)^2 where the peak-to-RMS r of a channel exceeds `bound`, else 0.

    8 bits divide the range of a tensor into 255 steps, so that a channel with a high peak has few of them for its
    usual values.

    Args:
        peaks: largest absolute value of each channel of each image, as from `channel_ranges`.
        mean_squares: its mean square.
        bound: the peak-to-RMS, at least 1, up to which there is no penalty.
    """
    return (peak_to_rms(peaks, mean_squares) / bound).clamp_min(1).log().square().mean()
