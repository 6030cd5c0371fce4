"""Losses between maps: which places of an image resemble which."""

import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def token_relation_loss(student: Tensor, teacher: Tensor, temperature: float, diagonal: bool = False) -> Tensor:
    """Divergence of the student's resemblances between places from the teacher's, over the places of the teacher's map.

    The student's map is resized to the teacher's, bilinearly. With u the unit vector at a place,

        P_ij = softmax over j of u_i . u_j / t,   loss = mean over i of sum over j of P_ij (log P_ij - log S_ij)

    where a place is not compared with itself unless `diagonal`: its cosine of 1 would take most of the row.

    Args:
        student: [B C H W].
        teacher: [B C' H' W'], C' of any width.
        temperature: divides the cosines.
        diagonal: compare places with themselves too, as lightly-train does.

    Returns:
        [].

    Source: lightly-train 8f5a75c, `distillationv3`, local term; without the diagonal it is ours.
    """
    resized = F.interpolate(student, teacher.shape[-2:], mode="bilinear", align_corners=False)
    ours, theirs = (_resemblances(maps, temperature, diagonal) for maps in (resized, teacher))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def _resemblances(maps: Tensor, temperature: float, diagonal: bool) -> Tensor:
    """[B C H W] -> log softmax, [B * H W, H W or one less]."""
    tokens = F.normalize(maps.flatten(2), dim=1)
    cosines = tokens.mT @ tokens
    count = cosines.shape[1]
    if not diagonal:  # the flat matrix in rows of one more, without its first column: every diagonal element falls away
        cosines = cosines.flatten(1)[:, 1:].unflatten(1, (count - 1, count + 1))[..., :-1]
        cosines = cosines.reshape(len(maps), count, count - 1)
    return F.log_softmax(cosines / temperature, dim=-1).flatten(0, 1)
