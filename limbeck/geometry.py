"""How rows of features lie: tightness, spread, uniformity, rank. Shared by training, which watches, and evaluation."""

import torch
import torch.nn.functional as F
from torch import Tensor


def positive_alignment(a: Tensor, b: Tensor) -> Tensor:
    """1/N sum_i |a_i - b_i|^2 over two views `a`, `b` [N D] of the same images."""
    return (a - b).square().sum(dim=-1).mean()


def negative_alignment(a: Tensor) -> Tensor:
    """2/(N(N-1)) sum_{i<j} |a_i - a_j|^2 over `a` [N D], which is twice the sum of the unbiased variances."""
    return 2.0 * a.var(dim=0).sum()


def uniformity(a: Tensor) -> Tensor:
    """log of the mean over pairs i < j of exp(-2 |a_i - a_j|^2); `a` [N D] is normalised here.

    Wang & Isola 2020, section 4.1.2, t = 2.
    """
    return torch.pdist(F.normalize(a, dim=-1)).square().mul(-2.0).exp().mean().log()


def deviation(a: Tensor) -> Tensor:
    """sqrt(D) x the mean over dimensions of the standard deviation of the L2-normalised rows of `a` [N D].

    1 where rows point everywhere alike, 0 where all are one point: the test for collapse of SimSiam (Chen & He 2021,
    figure 2), scaled so that it does not depend on D.
    """
    return F.normalize(a, dim=-1).std(dim=0).mean() * a.shape[1] ** 0.5


def effective_rank(a: Tensor) -> Tensor:
    """exp of the entropy of the singular values of `a` [N D], scaled to sum to 1; between 1 and min(N, D).

    Roy & Vetterli 2007; the RankMe of Garrido et al. 2023 (eq. 3). As there, `a` is not centred.
    """
    singular = torch.linalg.svdvals(a)
    share = singular / singular.sum().clamp_min(torch.finfo(a.dtype).tiny)
    return torch.special.entr(share).sum().exp()
