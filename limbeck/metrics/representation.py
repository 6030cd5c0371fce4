"""Geometry of features: alignment of views, spread, uniformity, rank. Used by evaluation and by training health."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def positive_alignment(a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return the mean squared distance 1/N sum_i |a_i - b_i|^2 of two views of the same images."""
    return (a - b).square().sum(dim=-1).mean()


def negative_alignment(a: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return the mean squared distance of pairs, 2/(N(N-1)) sum_{i<j} |a_i - a_j|^2.

    It equals twice the sum of the unbiased variances of the dimensions.
    """
    return 2.0 * a.var(dim=0).sum()


def uniformity(a: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return log mean_{i<j} exp(-2 |a_i - a_j|^2) of the L2-normalized rows: at most 0, lower is more uniform.

    Wang & Isola 2020, section 4.1.2, with t = 2. A single row is as uniform as equal ones: 0.
    """
    if len(a) == 1:
        return a.new_zeros(())
    return torch.pdist(F.normalize(a, dim=-1)).square().mul(-2.0).exp().mean().log()


def normalized_std(a: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return sqrt(D) times the mean over dimensions of the standard deviation of the L2-normalized rows.

    1 for isotropic directions, 0 for a single point or row: SimSiam's test for collapse (Chen & He 2021, figure 2),
    scaled so that it does not depend on D.
    """
    return F.normalize(a, dim=-1).std(dim=0, correction=min(1, len(a) - 1)).mean() * a.shape[1] ** 0.5


def effective_rank(a: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return exp of the entropy of the singular values scaled to sum to 1: between 1 and min(N, D).

    Roy & Vetterli 2007; RankMe, Garrido et al. 2023 (eq. 3). As there, the features are not centered.
    """
    singular = torch.linalg.svdvals(a)
    share = singular / singular.sum().clamp_min(torch.finfo(a.dtype).tiny)
    return torch.special.entr(share).sum().exp()
