"""Losses between feature maps: match the similarities between positions within an image."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def token_relation_loss(
    student: Float[Tensor, "B _ H W"],
    teacher: Float[Tensor, "B _ H_teacher W_teacher"],
    temperature: float,
    diagonal: bool = False,
) -> Float[Tensor, ""]:
    """Return the divergence of the student's token similarities from the teacher's, at the teacher's resolution.

    The student's map is resized to the teacher's, bilinearly. With u the unit vector at a position,

        P_ij = softmax over j of u_i . u_j / t,   loss = mean over i of sum over j of P_ij (log P_ij - log S_ij)

    A position is not compared with itself unless `diagonal`: its cosine of 1 would take most of the row.

    Args:
        student: feature maps.
        teacher: feature maps; channels and size may differ from the student's.
        temperature: divides the cosines.
        diagonal: also compare positions with themselves, as lightly-train does.

    Source: lightly-train 8f5a75c, `distillationv3`, local term; leaving out the diagonal is an addition of Limbeck.
    """
    resized = F.interpolate(student, teacher.shape[-2:], mode="bilinear", align_corners=False)
    log_student, log_teacher = (_log_similarities(maps, temperature, diagonal) for maps in (resized, teacher))
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def _log_similarities(
    maps: Float[Tensor, "B C H W"], temperature: float, diagonal: bool
) -> Float[Tensor, "rows others"]:
    """Return the log softmax of each position's cosines with the others, [B*H*W, H*W or one less]."""
    tokens = F.normalize(maps.flatten(2), dim=1)
    cosines = tokens.mT @ tokens
    count = cosines.shape[1]
    if not diagonal:  # cut the flat matrix into rows of one more, and drop the first column: the diagonal falls away
        cosines = cosines.flatten(1)[:, 1:].unflatten(1, (count - 1, count + 1))[..., :-1]
        cosines = cosines.reshape(len(maps), count, count - 1)
    return F.log_softmax(cosines / temperature, dim=-1).flatten(0, 1)
