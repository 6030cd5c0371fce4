"""Contrastive losses: identify the positive among candidates."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def info_nce(
    queries: Float[Tensor, "B D"],
    candidates: Float[Tensor, "K D"],
    positives: Int[Tensor, " B"] | Float[Tensor, "B D"],
    temperature: float,
    exclude: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Return the InfoNCE loss: the cross-entropy of each query's positive among the candidates, by cosine.

    Args:
        queries: rows of any length.
        candidates: rows of any length.
        positives: index of each query's positive among the candidates (int64); or the positives themselves, where they
            are not among the candidates: each is then one more candidate of its own query (a queue holds negatives).
        temperature: divides the cosines.
        exclude: index of a candidate that each query leaves out (itself), int64.

    Returns:
        mean over i of  -log( exp(cos(q_i, c_pos(i)) / t) / sum over j != exclude(i) of exp(cos(q_i, c_j) / t) ).

    Source: Oord et al. 2018 (eq. 4); with `exclude`, NT-Xent of SimCLR (Chen et al. 2020, eq. 1); with separate
    positives, MoCo (He et al. 2020, eq. 1).
    """
    queries = F.normalize(queries, dim=1)
    logits = queries @ F.normalize(candidates, dim=1).T
    if positives.dim() == 2:
        found = (queries * F.normalize(positives, dim=1)).sum(1, keepdim=True)
        last = torch.full_like(found[:, 0], len(candidates), dtype=torch.int64)
        logits, positives = torch.cat([logits, found], 1), last
    logits = logits / temperature
    if exclude is not None:
        logits = logits.scatter(1, exclude[:, None], -torch.inf)
    return F.cross_entropy(logits, positives)


@full_precision
def info_nce_per_positive(
    queries: Float[Tensor, "B D"], bank: Float[Tensor, "K D"], positives: Float[Tensor, "S B D"], temperature: float
) -> Float[Tensor, " S"]:
    """Return one InfoNCE loss per set of positives, all against the same bank; a set is no negative of another.

    Args:
        queries: rows of any length.
        bank: unit rows.
        positives: S sets of positives, rows of any length.
        temperature: divides the cosines.

    Returns:
        for each set s, the mean over i of  -log( e_si / (e_si + sum over j of exp(cos(q_i, b_j) / t)) )  with
        e_si = exp(cos(q_i, k_si) / t).

    Source: BINGO (Xu et al., ICLR 2022).
    """
    queries = F.normalize(queries, dim=1)
    negatives = (queries @ bank.T / temperature).logsumexp(1)
    found = (queries * F.normalize(positives, dim=2)).sum(2) / temperature
    return (torch.logaddexp(negatives, found) - found).mean(1)


@full_precision
def sup_con(
    queries: Float[Tensor, "B D"],
    candidates: Float[Tensor, "K D"],
    positives: Bool[Tensor, "B K"],
    temperature: float,
    exclude: Int[Tensor, " B"],
) -> Float[Tensor, ""]:
    """Return the supervised contrastive loss: the mean cross-entropy of a query's positives among the candidates.

    Args:
        queries: rows of any length.
        candidates: rows of any length.
        positives: which candidates are positives of each query; at least one besides `exclude`.
        temperature: divides the cosines.
        exclude: index of a candidate that each query leaves out (itself), int64.

    Returns:
        mean over i, and over the positives p != exclude(i) of i, of
        -log( exp(cos(q_i, c_p) / t) / sum over j != exclude(i) of exp(cos(q_i, c_j) / t) ).

    Source: Khosla et al., NeurIPS 2020 (eq. 2).
    """
    left_out = exclude[:, None]
    cosines = F.normalize(queries, dim=1) @ F.normalize(candidates, dim=1).T
    logits = (cosines / temperature).scatter(1, left_out, -torch.inf)
    weights = positives.scatter(1, left_out, False).to(logits.dtype)
    found = (F.log_softmax(logits, dim=1).scatter(1, left_out, 0) * weights).sum(1) / weights.sum(1)
    return -found.mean()
