"""Losses that compare how two networks place an image among others: its similarities to the rows of a bank."""

import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def relation(rows: Tensor, bank: Tensor, temperature: float) -> Tensor:
    """Whom a row resembles, as a distribution over the bank: softmax over j of cos(r_i, b_j) / t.

    Args:
        rows: [B D], any length of rows.
        bank: [K D], unit rows; normalising them here would cost a pass over the bank for every call.
        temperature: divides the cosines.

    Returns:
        [B K].

    Source: ReSSL (Zheng et al., NeurIPS 2021; KyleZheng1997/ReSSL 4d67daa).
    """
    return F.softmax(F.normalize(rows, dim=1) @ bank.T / temperature, dim=1)


@full_precision
def relation_loss(student: Tensor, bank: Tensor, temperature: float, target: Tensor) -> Tensor:
    """Cross-entropy of a student's distribution over its bank with a target distribution.

    The target is `relation` of a teacher, with a temperature and a bank of its own; row j of both banks shows the same
    image. The loss is linear in the target: weights of several targets may be multiplied in.

    Args:
        student: [B D], any length of rows.
        bank: [K D], unit rows.
        temperature: divides the cosines.
        target: [B K].

    Returns:
        -mean over i of  sum over j of target_ij log relation(student, bank, temperature)_ij,  [].

    Source: ReSSL, as above; between two banks, CGH (Gao et al., WACV 2024; zaczgao/Cross-Context_Learning 340bca9).
    """
    return F.cross_entropy(F.normalize(student, dim=1) @ bank.T / temperature, target)
