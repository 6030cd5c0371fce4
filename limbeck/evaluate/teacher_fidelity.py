"""The fidelity of a student to its teacher, from the features of both, after training and during it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from limbeck.core.devices import resolve_bf16
from limbeck.features.extract import extract
from limbeck.features.images import ImageFn
from limbeck.metrics.fidelity import NEIGHBOURS, Fidelity, agreement, check_images, linear_cka, mean_cosine
from limbeck.metrics.representation import effective_rank
from limbeck.models.backbone import Backbone
from limbeck.neighbors.graph import neighbours


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
        cosine=mean_cosine(student, teacher),
        student_rank=effective_rank(student).item(),
        teacher_rank=effective_rank(teacher).item(),
    )


def fidelity_probe(
    look: ImageFn, rows: np.ndarray, teacher: Tensor, device: torch.device, k: int = NEIGHBOURS
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
        own = extract(backbone, look, rows, taps=(last,), device=device, bf16=resolve_bf16("auto", device))[last]
        return {"agreement": agreement(_nearest(own, k), near), "cka": linear_cka(own, theirs)[0]}

    return probe


def _nearest(features: Tensor, k: int) -> Tensor:
    """Rows of the `k` largest cosines of every row of `features` [N D], itself excluded: [N k], on the CPU.

    A vector of zeros has no direction; all of them get the same one, so that they agree with a teacher by chance.
    """
    directed = torch.where(features.any(dim=1, keepdim=True), features, 1.0)
    graph = neighbours(directed.numpy(force=True), k, search="exact", device=features.device)
    return torch.from_numpy(graph.rows)
