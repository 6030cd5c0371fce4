"""How much of a teacher's space a student keeps: neighbours, similarities, directions. No labels are needed."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.errors import UserError

NEIGHBOURS = 10


class Fidelity(NamedTuple):
    """A student's features beside a teacher's, of the same N images."""

    agreement: float  # share of an image's k nearest images on which the two agree, in [0, 1]
    chance: float  # `agreement` of unrelated features: k / (N - 1)
    cka: float  # linear CKA, in [0, 1]
    cka_chance: float  # `cka` of the same features, the student's rows shuffled; far from 0 where N is not far above D
    cosine: float | None  # mean cosine of the two vectors of an image; None where the widths differ
    student_rank: float  # effective ranks
    teacher_rank: float


def agreement(a: Tensor, b: Tensor) -> float:
    """Mean over rows of |a_i & b_i| / k, of neighbours `a` and `b` [N k] (rows of one store, distinct in a row)."""
    return (a[:, :, None] == b[:, None, :]).any(dim=2).double().mean().item()


def linear_cka(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Linear CKA of `a` [N Da] and `b` [N Db], and its mean over all N! ways of pairing their rows.

    |B'A|^2 / (|A'A| |B'B|) of the centred features, in Frobenius norms (Kornblith et al. 2019, section 3): 1 where one
    is the other rotated and scaled, 0 where one is constant. A random pairing gives |A|^2 |B|^2 / ((N - 1) |A'A| |B'B|)
    on average, since then E[P b b' P'] is a multiple of the centring matrix.
    """
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    scale = torch.stack([(x.T @ x).norm() for x in (a, b)]).clamp_min(torch.finfo(a.dtype).tiny)
    cross, shuffled = (b.T @ a).norm(), a.norm() * b.norm() / (len(a) - 1) ** 0.5
    return (cross / scale).prod().item(), (shuffled / scale).prod().item()


def mean_cosine(student: Tensor, teacher: Tensor) -> float | None:
    """Mean cosine of the two vectors of an image, [N Ds] and [N Dt]; None where the widths differ."""
    if student.shape != teacher.shape:
        return None
    return F.cosine_similarity(student, teacher, dim=-1).mean().item()


def check_images(images: int, k: int = NEIGHBOURS) -> None:
    """Refuse sets in which everybody's `k` neighbours are everybody."""
    if images <= k + 1:
        raise UserError(f"agreement on {k} neighbours says nothing of {images} images: give more than {k + 1}")
