"""Losses on moments of embeddings over a batch, which keep columns spread out and unlike each other.

Every moment is a mean over rows. `average` makes it the mean over the rows of all processes, each of which has as many;
it is the identity for one process.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import full_precision

Average = Callable[[Tensor], Tensor]
"""Replace a tensor by its mean over all processes, with its gradient."""

NORM_EPS = 1e-5  # that of BatchNorm
VARIANCE_EPS = 1e-4  # that of VICReg


def one_process(x: Tensor) -> Tensor:
    """Return the mean over processes where there is one: `x`."""
    return x


@full_precision
def cross_correlation(
    first: Float[Tensor, "B D"], second: Float[Tensor, "B D"], average: Average = one_process
) -> Float[Tensor, "D D"]:
    """Return the correlation of every column of `first` with every column of `second`, rows being of the same images.

    Columns are standardized as by a BatchNorm without scale and shift: (x - mean) / sqrt(variance + 1e-5), with the
    variance divided by the number of rows.
    """
    a, b = (_standardize(rows, average) for rows in (first, second))
    return average(a.T @ b / len(a))


@full_precision
def redundancy_reduction(correlation: Float[Tensor, "D D"], off_diagonal_weight: float) -> Float[Tensor, ""]:
    """Return  sum over i of (1 - C_ii)^2  +  weight * sum over i != j of C_ij^2.

    Source: Barlow Twins (Zbontar et al. 2021, eq. 1; facebookresearch/barlowtwins 8e8d284).
    """
    diagonal = correlation.diagonal()
    off_diagonal = correlation.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + off_diagonal_weight * off_diagonal


@full_precision
def variance_hinge(rows: Float[Tensor, "B D"], processes: int = 1, average: Average = one_process) -> Float[Tensor, ""]:
    """Return the mean over columns of max(0, 1 - sqrt(variance + 1e-4)), with the unbiased variance.

    Source: VICReg (Bardes et al. 2022, eq. 1 and 2; facebookresearch/vicreg 4e12602).
    """
    variance = average(_center(rows, average).square().mean(0)) * _unbiased(rows, processes)
    return F.relu(1 - (variance + VARIANCE_EPS).sqrt()).mean()


@full_precision
def covariance_penalty(
    rows: Float[Tensor, "B D"], processes: int = 1, average: Average = one_process
) -> Float[Tensor, ""]:
    """Return the sum of the squared covariances of different columns, divided by D.

    Source: VICReg (as for `variance_hinge`, eq. 3 and 4).
    """
    centered = _center(rows, average)
    covariance = average(centered.T @ centered / len(rows)) * _unbiased(rows, processes)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / rows.shape[1]


def _center(rows: Float[Tensor, "B D"], average: Average) -> Float[Tensor, "B D"]:
    return rows - average(rows.mean(0))


def _standardize(rows: Float[Tensor, "B D"], average: Average) -> Float[Tensor, "B D"]:
    centered = _center(rows, average)
    return centered * torch.rsqrt(average(centered.square().mean(0)) + NORM_EPS)


def _unbiased(rows: Float[Tensor, "B D"], processes: int) -> float:
    """Return N / (N - 1), with N the rows of all processes."""
    count = len(rows) * processes
    return count / (count - 1)
