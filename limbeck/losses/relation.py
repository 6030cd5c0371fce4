"""Losses that compare how two networks place an image among others: its similarities to the rows of a bank."""

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def relation(rows: Tensor, bank: Tensor, temperature: float, own: Tensor | None = None) -> Tensor:
    """Whom a row resembles, as a distribution over the bank: softmax over j of cos(r_i, b_j) / t.

    Args:
        rows: [B D], any length of rows.
        bank: [K D], unit rows; normalising them here would cost a pass over the bank for every call.
        temperature: divides the cosines.
        own: [B D], any length of rows: one more candidate, the first, that its own row alone sees; or None.

    Returns:
        [B K], or [B 1+K].

    Source: ReSSL (Zheng et al., NeurIPS 2021; KyleZheng1997/ReSSL 4d67daa); with `own`, SEED (Fang et al., ICLR 2021).
    """
    return F.softmax(_cosines(rows, bank, own) / temperature, dim=1)


@full_precision
def relation_loss(
    student: Tensor, bank: Tensor, temperature: float, target: Tensor, own: Tensor | None = None
) -> Tensor:
    """Cross-entropy of a student's distribution over its bank with a target distribution.

    The target is `relation` of a teacher, with a temperature and a bank of its own; row j of both banks shows the same
    image. The loss is linear in the target: weights of several targets may be multiplied in.

    Args:
        student: [B D], any length of rows.
        bank: [K D], unit rows.
        temperature: divides the cosines.
        target: [B K], or [B 1+K].
        own: as for `relation`.

    Returns:
        -mean over i of  sum over j of target_ij log relation(student, bank, temperature, own)_ij,  [].

    Source: ReSSL and SEED, as above; between two banks, CGH (Gao et al., WACV 2024; zaczgao/Cross-Context_Learning
    340bca9).
    """
    return F.cross_entropy(_cosines(student, bank, own) / temperature, target)


@full_precision
def relation_divergence(student: Tensor, bank: Tensor, temperature: float, target: Tensor) -> Tensor:
    """`relation_loss` less the mean entropy of the target, [B K]: 0 where both agree, with the same gradient.

    Source: CompRess (Abbasi Koohpayegani et al., NeurIPS 2020).
    """
    found = F.log_softmax(_cosines(student, bank, None) / temperature, dim=1)
    return F.kl_div(found, target, reduction="batchmean")


def _cosines(rows: Tensor, bank: Tensor, own: Tensor | None) -> Tensor:
    """[B D], [K D] and perhaps [B D] -> [B K] or [B 1+K]."""
    rows = F.normalize(rows, dim=1)
    cosines = rows @ bank.T
    return cosines if own is None else torch.cat([(rows * F.normalize(own, dim=1)).sum(1, keepdim=True), cosines], 1)
