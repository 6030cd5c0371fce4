"""How much of a teacher's space a student keeps: neighbours, similarities, directions. No labels are needed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.devices import use_bf16
from limbeck.core.errors import UserError
from limbeck.evaluate.features import extract
from limbeck.geometry import effective_rank
from limbeck.graph.neighbours import neighbours
from limbeck.models.backbone import Backbone
from limbeck.passes import Look

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


def fidelity(student: Tensor, teacher: Tensor, k: int = NEIGHBOURS) -> Fidelity:
    """Fidelity of `student` [N Ds] to `teacher` [N Dt], floating point of one dtype on one device, row by row.

    Raises:
        UserError: no more than k + 1 images, among which everything agrees.
    """
    check_images(len(teacher), k)
    cka, cka_chance = linear_cka(student, teacher)
    return Fidelity(
        agreement=agreement(_nearest(student, k), _nearest(teacher, k)),
        chance=k / (len(teacher) - 1),
        cka=cka,
        cka_chance=cka_chance,
        cosine=_mean_cosine(student, teacher),
        student_rank=effective_rank(student).item(),
        teacher_rank=effective_rank(teacher).item(),
    )


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


def fidelity_probe(
    look: Look, rows: np.ndarray, teacher: Tensor, device: torch.device, k: int = NEIGHBOURS
) -> Callable[[Backbone], dict[str, float]]:
    """A probe for training: an encoder -> {"agreement", "cka"} with the teacher on held-out images.

    Args:
        look: the images of `rows` as the student sees them, on `device`.
        rows: of the store, int64 [N].
        teacher: what the teacher says of them [N D]; its neighbours are looked up once.
        device: where the encoder is.

    Raises:
        UserError: as `fidelity`.
    """
    check_images(len(rows), k)
    theirs = teacher.to(device, torch.float32)
    near = _nearest(theirs, k)

    def probe(backbone: Backbone) -> dict[str, float]:
        last = backbone.taps[-1]
        own = extract(backbone, look, rows, taps=(last,), device=device, bf16=use_bf16("auto", device))[last]
        return {"agreement": agreement(_nearest(own, k), near), "cka": linear_cka(own, theirs)[0]}

    return probe


def check_images(images: int, k: int = NEIGHBOURS) -> None:
    """Refuse sets in which everybody's `k` neighbours are everybody."""
    if images <= k + 1:
        raise UserError(f"agreement on {k} neighbours says nothing of {images} images: give more than {k + 1}")


def _mean_cosine(student: Tensor, teacher: Tensor) -> float | None:
    if student.shape != teacher.shape:
        return None
    return F.cosine_similarity(student, teacher, dim=-1).mean().item()


def _nearest(features: Tensor, k: int) -> Tensor:
    """Rows of the `k` largest cosines of every row of `features` [N D], itself excluded: [N k], on the CPU.

    A vector of zeros has no direction; all of them get the same one, so that they agree with a teacher by chance.
    """
    directed = torch.where(features.any(dim=1, keepdim=True), features, 1.0)
    graph = neighbours(directed.numpy(force=True), k, search="exact", device=features.device)
    return torch.from_numpy(graph.rows)
