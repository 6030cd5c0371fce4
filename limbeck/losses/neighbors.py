"""Supervised losses with the neighbors of an image in a queue of earlier images (CoNe)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def class_cross_entropy(
    logits: Float[Tensor, "B Q"], labels: Int[Tensor, " B"], label_smoothing: float
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy with the share `label_smoothing` of each target spread over the other classes.

    torch spreads a share over all classes, the right one included; the factor makes the two equal.
    """
    classes = logits.shape[1]
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing * classes / (classes - 1))


@full_precision
def neighbor_contrast(
    queries: Float[Tensor, "B D"],
    labels: Int[Tensor, " B"],
    bank: Float[Tensor, "K D"],
    bank_labels: Int[Tensor, " K"],
    num_neighbors: int,
    temperature: float,
) -> Float[Tensor, ""]:
    """Return a loss that is small when the softmax over an image's nearest neighbors lies on those of its class.

    Args:
        queries: rows of any length.
        labels: int64 classes of the queries.
        bank: rows of any length.
        bank_labels: int64 classes of the bank's rows; -1 for none.
        num_neighbors: most similar rows of the bank that a query is compared with.
        temperature: divides the cosines.

    Returns:
        -1/B sum over i of log( sum over j in N(i) with y_j = y_i of exp(cos(q_i, b_j) / t) / sum over j in N(i) );
        a query without a neighbor of its class adds 0.

    Source: CoNe (Zheng et al. 2023), L_sup in mingkai-zheng/CoNe 4f96621.
    """
    cosines = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    nearest, places = cosines.topk(num_neighbors, dim=1)
    logits = nearest / temperature
    same = bank_labels[places] == labels[:, None]
    log_all = logits.logsumexp(1)
    # A row without a neighbor of its class takes all neighbors: its loss is 0 and its gradient is not NaN.
    log_same = logits.masked_fill(~(same | ~same.any(1, keepdim=True)), -torch.inf).logsumexp(1)
    return (log_all - log_same).mean()


@full_precision
def neighbor_consistency(
    logits: Float[Tensor, "B Q"],
    keys: Float[Tensor, "B D"],
    bank: Float[Tensor, "K D"],
    bank_labels: Int[Tensor, " K"],
    votes: Float[Tensor, "K Q"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the KL divergence of class probabilities from the votes of the key's neighbors (without gradient).

    Args:
        logits: of the student.
        keys: of the EMA encoder, rows of any length.
        bank: rows of any length.
        bank_labels: int64; rows labelled -1 have no vote.
        votes: class probabilities of the bank's rows.
        temperature: divides the cosines.

    Returns:
        1/B sum over i, c of v_ic (log v_ic - log softmax(logits_i)_c), v_i = softmax(cos(k_i, bank) / t) @ votes.
        Where rows have no vote, v_i sums to correspondingly less than 1.

    Source: CoNe (Zheng et al. 2023), L_dc in mingkai-zheng/CoNe 4f96621.
    """
    with torch.no_grad():
        weights = (F.normalize(keys, dim=1) @ F.normalize(bank, dim=1).T / temperature).softmax(1)
        targets = (weights * (bank_labels >= 0)) @ votes
    return F.kl_div(logits.log_softmax(1), targets, reduction="batchmean")
