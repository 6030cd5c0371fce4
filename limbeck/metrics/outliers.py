"""Outliers of feature maps, by which quantization to 8 bits loses most."""

import torch
from jaxtyping import Float
from torch import Tensor


def kurtosis(fourths: Float[Tensor, " N"], mean_squares: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Return the kurtosis about zero, E[x^4] / E[x^2]^2, of the values of N feature maps of one size.

    It is 1 for values of one size, 3 for normal ones, and grows with outliers, such as a channel far above the others.

    Args:
        fourths: the mean fourth power of each map.
        mean_squares: its mean square.
    """
    return fourths.mean() / mean_squares.mean().square().clamp_min(torch.finfo(fourths.dtype).tiny)
