"""Fidelity: how much of a teacher's feature space a student preserves. No labels are needed."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.neighbors.search import nearest
from limbeck.neighbors.vectors import UnitVectors

NUM_NEIGHBORS = 10
"""Nearest neighbors per image that student and teacher are compared on."""


class Fidelity(NamedTuple):
    """A student's features compared with a teacher's, of the same N images."""

    neighbor_agreement: float  # fraction of an image's k nearest images that both have in common, in [0, 1]
    chance: float  # `neighbor_agreement` of unrelated features: k / (N - 1)
    cka: float  # linear CKA, in [0, 1]
    cka_chance: float  # `cka` with the student's rows shuffled; far from 0 where N is not far above D
    cosine: float | None  # mean cosine of the two vectors of an image; None where the widths differ


def fidelity(student: Float[Tensor, "N Ds"], teacher: Float[Tensor, "N Dt"], k: int = NUM_NEIGHBORS) -> Fidelity:
    """Compare `student` with `teacher` row by row; both are of one dtype and on one device.

    Raises:
        UserError: at most k + 1 images, where all neighbor sets agree.
    """
    check_images(len(teacher), k)
    cka, cka_chance = linear_cka(student, teacher)
    return Fidelity(
        neighbor_agreement=neighbor_agreement(nearest_images(student, k), nearest_images(teacher, k)),
        chance=k / (len(teacher) - 1),
        cka=cka,
        cka_chance=cka_chance,
        cosine=mean_cosine(student, teacher),
    )


def nearest_images(features: Float[Tensor, "N D"], k: int = NUM_NEIGHBORS) -> Int[Tensor, "N k"]:
    """Return the `k` rows with the largest cosine to each row, itself excluded; exact and reproducible.

    A vector of zeros has no direction. All of them get the same one, so that they agree with a teacher by chance.
    """
    directed = torch.where(features.any(dim=1, keepdim=True), features, 1.0)
    return nearest(UnitVectors(directed, None, features.device), k).positions


def neighbor_agreement(a: Int[Tensor, "N k"], b: Int[Tensor, "N k"]) -> float:
    """Return the mean over rows of |a_i & b_i| / k, for neighbors that are distinct within a row."""
    return (a[:, :, None] == b[:, None, :]).any(dim=2).double().mean().item()


def linear_cka(a: Float[Tensor, "N Da"], b: Float[Tensor, "N Db"]) -> tuple[float, float]:
    """Return the linear CKA of `a` and `b`, and its mean over all N! pairings of their rows.

    |B'A|^2 / (|A'A| |B'B|) of the centered features, in Frobenius norms (Kornblith et al. 2019, section 3): 1 where one
    is the other rotated and scaled, 0 where one is constant. A random pairing gives |A|^2 |B|^2 / ((N - 1) |A'A| |B'B|)
    on average, since then E[P b b' P'] is a multiple of the centering matrix.
    """
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    scale = torch.stack([(x.T @ x).norm() for x in (a, b)]).clamp_min(torch.finfo(a.dtype).tiny)
    cross, shuffled = (b.T @ a).norm(), a.norm() * b.norm() / (len(a) - 1) ** 0.5
    return (cross / scale).prod().item(), (shuffled / scale).prod().item()


def mean_cosine(student: Float[Tensor, "N Ds"], teacher: Float[Tensor, "N Dt"]) -> float | None:
    """Return the mean cosine of the two vectors of an image; None where the widths differ."""
    if student.shape != teacher.shape:
        return None
    return F.cosine_similarity(student, teacher, dim=-1).mean().item()


def check_images(images: int, k: int = NUM_NEIGHBORS) -> None:
    """Raise UserError for so few images that `k` neighbors are nearly all of them."""
    if images <= k + 1:
        raise UserError(
            f"neighbor agreement compares {k} neighbors per image, and of {plural(images, 'image')} none has so "
            f"many: give more than {k + 1}",
            code="too-few-images",
        )
