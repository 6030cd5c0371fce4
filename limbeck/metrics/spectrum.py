"""Measure the spectrum of features without labels: its decay (alpha-ReQ), and the rank that views leave (LiDAR)."""

import torch
from jaxtyping import Float
from torch import Tensor

FIRST_RANK = 10
"""The leading eigenvalues are no part of a power law."""
WITHIN_RIDGE = 1e-4
"""Added to the covariance within images, delta of LiDAR, in mean variances within images."""


def spectral_decay(features: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return alpha of the power law j^-alpha that fits the eigenvalues of the covariance, in logarithms.

    Least squares over the ranks from 10 (a quarter of the width, if that is less) to half of the width; the ranks are
    weighted by 1 / j, so that every octave counts as much. 1 is what Agrawal et al. 2022 (alpha-ReQ, section 3) found
    best; more is a faster decay, less a slower one. The result is not a number where eigenvalues are 0.
    """
    width = min(len(features) - 1, features.shape[1])
    values = torch.linalg.svdvals((features - features.mean(dim=0)).double()).square()
    ranks = torch.arange(min(FIRST_RANK, max(1, width // 4)), max(width // 2, 3) + 1, device=features.device)
    x, y, weight = ranks.double().log(), values[ranks - 1].log(), 1 / ranks
    x, y = x - (weight * x).sum() / weight.sum(), y - (weight * y).sum() / weight.sum()
    return -(weight * x * y).sum() / (weight * x * x).sum()


def lidar(views: Float[Tensor, "N V D"]) -> Float[Tensor, ""]:
    """Return the effective rank of what distinguishes images, in units of what distinguishes views of an image.

    With B the covariance of the means of images and W that of views about the mean of their image, it is exp of the
    entropy of the eigenvalues of (W + r I)^-1/2 B (W + r I)^-1/2, scaled to sum to 1: between 1 and min(N - 1, D).

    Source: LiDAR, Thilak et al. 2024, eq. 1 to 5, where r is 1e-4 whatever the scale of the features; here it is
    1e-4 mean variances within images, so that the scale does not count.
    """
    rows = views.double()
    means = rows.mean(dim=1)
    between = torch.cov(means.mT, correction=1)
    spread = (rows - means[:, None]).flatten(0, 1)
    within = spread.mT @ spread / (len(rows) * (rows.shape[1] - 1))
    ridge = WITHIN_RIDGE * within.diagonal().mean() * torch.eye(len(within), dtype=rows.dtype, device=rows.device)
    values, vectors = torch.linalg.eigh(within + ridge)
    whitening = vectors * values.rsqrt()
    ratios = torch.linalg.eigvalsh(whitening.mT @ between @ whitening).clamp_min(0)
    return torch.special.entr(ratios / ratios.sum()).sum().exp()
