"""SIGReg: how far embeddings are from an isotropic Gaussian, along random directions (LeJEPA)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import full_precision
from limbeck.losses.redundancy import Average, one_process

RANGE, POINTS = 5.0, 17  # of the trapezoidal rule: t from -5 to 5


@full_precision
def sigreg(
    rows: Float[Tensor, "V B D"],
    directions: Float[Tensor, "M D"],
    processes: int = 1,
    average: Average = one_process,
) -> Float[Tensor, ""]:
    """Return the mean over views and directions of the Epps-Pulley statistic of the rows along a direction.

    With x_n = a . z_n along a direction a, N rows over all processes, phi(t) = exp(-t^2 / 2) the characteristic
    function of the standard normal distribution, and phi also as the window of the integral:

        N  integral over t of  |1/N sum over n of exp(i t x_n)  -  phi(t)|^2  phi(t)

    by the trapezoidal rule with 17 points in [-5, 5]. The integrand is even and 0 at t = 0, so 8 points suffice. For
    normal rows its mean is sqrt(2 pi) (1 - 1 / sqrt(3)) = 1.06, for any N; if all rows are equal it grows with N.

    Args:
        rows: embeddings, each view by itself.
        directions: unit rows.
        processes: how many processes have as many rows.
        average: mean over processes, of the empirical characteristic function.

    Source: LeJEPA (Balestriero and LeCun 2025, arXiv 2511.08544); the statistic is that of Epps and Pulley 1983.
    """
    step = 2 * RANGE / (POINTS - 1)
    t = step * torch.arange(1, POINTS // 2 + 1, device=rows.device, dtype=rows.dtype)
    normal = torch.exp(-t.square() / 2)
    weights = 2 * step * normal
    weights[-1] /= 2
    angles = (rows @ directions.to(rows.dtype).T)[..., None] * t
    cosines, sines = average(torch.stack([angles.cos().mean(1), angles.sin().mean(1)]))
    distances = (cosines - normal).square() + sines.square()
    return rows.shape[1] * processes * (distances * weights).sum(-1).mean()


def normal_deviates(uniforms: Float[Tensor, "M even"]) -> Float[Tensor, "M even"]:
    """Return standard normal numbers from uniform ones in [0, 1), by pairs (Box and Muller 1958)."""
    radius, angle = uniforms.chunk(2, dim=1)
    radius, angle = (-2 * torch.log1p(-radius)).sqrt(), 2 * math.pi * angle
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
