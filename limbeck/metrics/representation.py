"""How rows of features lie: tightness, spread, uniformity, rank. Shared by training, which watches, and evaluation."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Geometry(NamedTuple):
    """The geometry of one layer; distances are squared, of L2-normalised features unless the name says raw."""

    positive: float  # between two views of an image; lower is tighter
    negative: float  # between two images; higher is more spread
    ratio: float  # negative / positive
    raw_positive: float
    raw_negative: float
    raw_ratio: float
    uniformity: float  # at most 0; lower is more uniform
    to_last: float | None  # from a view's features here to the other view's in the last layer; None if widths differ


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


def geometry(a: Tensor, b: Tensor, last_a: Tensor, last_b: Tensor) -> Geometry:
    """Geometry of a layer whose features of two views of the same N images are `a` and `b` [N D].

    `last_a` and `last_b` [N D_last] are the last layer's. The alignments are those of SDSSL's evaluation (Jang et al.
    2023; `uni_ali.py` in the history of hagiss/SDSSL).
    """
    unit_a, unit_b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    near, far = positive_alignment(unit_a, unit_b), negative_alignment(unit_a)
    raw_near, raw_far = positive_alignment(a, b), negative_alignment(a)
    return Geometry(
        positive=near.item(),
        negative=far.item(),
        ratio=(far / near).item(),
        raw_positive=raw_near.item(),
        raw_negative=raw_far.item(),
        raw_ratio=(raw_far / raw_near).item(),
        uniformity=uniformity(a).item(),
        to_last=_to_last(unit_a, unit_b, F.normalize(last_a, dim=-1), F.normalize(last_b, dim=-1)),
    )


def _to_last(a: Tensor, b: Tensor, last_a: Tensor, last_b: Tensor) -> float | None:
    if a.shape != last_a.shape:
        return None
    return 0.5 * (positive_alignment(a, last_b) + positive_alignment(b, last_a)).item()
