"""Relational losses: match the similarities of two networks to the rows of a bank (ReSSL, SEED, CompRess, CGH)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def relation(
    rows: Float[Tensor, "B D"],
    bank: Float[Tensor, "K D"],
    temperature: float,
    positive: Float[Tensor, "B D"] | None = None,
) -> Float[Tensor, "B candidates"]:
    """Return the similarity distribution of each row over the bank: softmax over j of cos(r_i, b_j) / t.

    Args:
        rows: rows of any length.
        bank: unit rows; normalizing them here would cost a pass over the bank in every call.
        temperature: divides the cosines.
        positive: one more candidate for each row, placed first; rows of any length.

    Returns:
        [B K], or [B 1+K] with `positive`.

    Source: ReSSL (Zheng et al., NeurIPS 2021; KyleZheng1997/ReSSL 4d67daa); with `positive`, SEED (Fang et al., ICLR
    2021).
    """
    return F.softmax(_cosines(rows, bank, positive) / temperature, dim=1)


@full_precision
def relation_loss(
    student: Float[Tensor, "B D"],
    bank: Float[Tensor, "K D"],
    temperature: float,
    target: Float[Tensor, "B candidates"],
    positive: Float[Tensor, "B D"] | None = None,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of a student's similarity distribution with a target distribution.

    The target is the `relation` of another network, which may have another temperature and another bank; row j of both
    banks belongs to the same image. The loss is linear in the target, so weights may be multiplied into it.

    Args:
        student: rows of any length.
        bank: unit rows.
        temperature: divides the cosines.
        target: [B K], or [B 1+K] with `positive`.
        positive: as for `relation`.

    Returns:
        -mean over i of  sum over j of target_ij log relation(student, bank, temperature, positive)_ij.

    Source: ReSSL and SEED, as above; between two banks, CGH (Gao et al., WACV 2024; zaczgao/Cross-Context_Learning
    340bca9).
    """
    return F.cross_entropy(_cosines(student, bank, positive) / temperature, target)


@full_precision
def relation_divergence(
    student: Float[Tensor, "B D"], bank: Float[Tensor, "K D"], temperature: float, target: Float[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """Return `relation_loss` minus the mean entropy of the target: 0 where both agree, with the same gradient.

    Source: CompRess (Abbasi Koohpayegani et al., NeurIPS 2020).
    """
    found = F.log_softmax(_cosines(student, bank, None) / temperature, dim=1)
    return F.kl_div(found, target, reduction="batchmean")


def _cosines(
    rows: Float[Tensor, "B D"], bank: Float[Tensor, "K D"], positive: Float[Tensor, "B D"] | None
) -> Float[Tensor, "B candidates"]:
    rows = F.normalize(rows, dim=1)
    cosines = rows @ bank.T
    if positive is None:
        return cosines
    return torch.cat([(rows * F.normalize(positive, dim=1)).sum(1, keepdim=True), cosines], 1)
