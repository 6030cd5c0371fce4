"""Losses that learn labels from the neighbours of an image among images seen before (CoNe)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def class_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy with the share `smoothing` of each target spread over the other classes; [B C], [B] -> [].

    torch spreads a share over all classes, the own one included; the factor makes the two equal.
    """
    classes = logits.shape[1]
    return F.cross_entropy(logits, labels, label_smoothing=smoothing * classes / (classes - 1))


@full_precision
def neighbour_contrast(
    queries: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, neighbours: int, temperature: float
) -> Tensor:
    """How little of the weight of an image's nearest neighbours lies on those of its class.

    Args:
        queries: [B D], any length of rows.
        labels: [B] int64.
        bank: [K D], any length of rows.
        bank_labels: [K] int64, -1 for a row that is of no class.
        neighbours: rows of the bank, the most similar ones, that a query looks at.
        temperature: divides the cosines.

    Returns:
        -1/B sum over i of log( sum over j in N(i) with y_j = y_i of exp(cos(q_i, b_j) / t) / sum over j in N(i) ),  [];
        a query without a neighbour of its class adds 0.

    Source: CoNe (Zheng et al. 2023), L_sup in mingkai-zheng/CoNe 4f96621.
    """
    cosines = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    nearest, places = cosines.topk(neighbours, dim=1)
    logits = nearest / temperature
    same = bank_labels[places] == labels[:, None]
    log_all = logits.logsumexp(1)
    # Rows without a class mate go through with all neighbours, which is 0 and has no gradient of nan.
    log_same = logits.masked_fill(~(same | ~same.any(1, keepdim=True)), -torch.inf).logsumexp(1)
    return (log_all - log_same).mean()


@full_precision
def neighbour_consistency(
    logits: Tensor, keys: Tensor, bank: Tensor, bank_labels: Tensor, votes: Tensor, temperature: float
) -> Tensor:
    """KL divergence of an image's class probabilities from what its key's neighbours vote for, without gradient.

    Args:
        logits: [B C], of the student.
        keys: [B D], of the teacher, any length of rows.
        bank: [K D], any length of rows.
        bank_labels: [K] int64, -1 for a row that has no vote.
        votes: [K C], class probabilities of the bank's rows.
        temperature: divides the cosines.

    Returns:
        1/B sum over i, c of v_ic (log v_ic - log softmax(logits_i)_c), v_i = softmax(cos(k_i, bank) / t) @ votes,  [].
        Where rows have no vote, v_i has that much less to give.

    Source: CoNe (Zheng et al. 2023), L_dc in mingkai-zheng/CoNe 4f96621.
    """
    with torch.no_grad():
        weights = (F.normalize(keys, dim=1) @ F.normalize(bank, dim=1).T / temperature).softmax(1)
        targets = (weights * (bank_labels >= 0)) @ votes
    return F.kl_div(logits.log_softmax(1), targets, reduction="batchmean")
