"""Losses that tell the positive from the other candidates."""

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def info_nce(
    queries: Tensor, candidates: Tensor, positives: Tensor, temperature: float, exclude: Tensor | None = None
) -> Tensor:
    """Cross-entropy of finding each query's positive among the candidates, by cosine.

    Args:
        queries: [B D], any length of rows.
        candidates: [K D], any length of rows.
        positives: [B] int64, the row of `candidates` that belongs to each query; or, where it is not among them, the
            positive itself, [B D], one more candidate that its own query alone sees (a queue holds negatives only).
        temperature: divides the cosines.
        exclude: [B] int64, a row of `candidates` that each query does not see (itself), or None.

    Returns:
        mean over i of  -log( exp(cos(q_i, c_pos(i)) / t) / sum over j != exclude(i) of exp(cos(q_i, c_j) / t) ),  [].

    Source: Oord et al. 2018 (eq. 4); with `exclude`, NT-Xent of SimCLR (Chen et al. 2020, eq. 1); with positives of
    their own, MoCo (He et al. 2020, eq. 1).
    """
    queries = F.normalize(queries, dim=1)
    logits = queries @ F.normalize(candidates, dim=1).T
    if positives.dim() == 2:
        own = (queries * F.normalize(positives, dim=1)).sum(1, keepdim=True)
        logits, positives = torch.cat([logits, own], 1), torch.full_like(own[:, 0], len(candidates), dtype=torch.int64)
    logits = logits / temperature
    if exclude is not None:
        logits = logits.scatter(1, exclude[:, None], -torch.inf)
    return F.cross_entropy(logits, positives)


@full_precision
def info_nce_each(queries: Tensor, bank: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """`info_nce` of each of several sets of positives against one bank, none of which sees the other positives.

    Args:
        queries: [B D], any length of rows.
        bank: [K D], unit rows.
        positives: [P B D], any length of rows.
        temperature: divides the cosines.

    Returns:
        [P], for each p the mean over i of  -log( e_pi / (e_pi + sum over j of exp(cos(q_i, b_j) / t)) )
        with e_pi = exp(cos(q_i, k_pi) / t).

    Source: BINGO (Xu et al., ICLR 2022).
    """
    queries = F.normalize(queries, dim=1)
    negatives = (queries @ bank.T / temperature).logsumexp(1)
    own = (queries * F.normalize(positives, dim=2)).sum(2) / temperature
    return (torch.logaddexp(negatives, own) - own).mean(1)


@full_precision
def sup_con(queries: Tensor, candidates: Tensor, positives: Tensor, temperature: float, exclude: Tensor) -> Tensor:
    """Cross-entropy of finding each of a query's positives among the candidates, by cosine; the mean over them.

    Args:
        queries: [B D], any length of rows.
        candidates: [K D], any length of rows.
        positives: [B K] bool, the rows of `candidates` that belong to each query, at least one but `exclude`.
        temperature: divides the cosines.
        exclude: [B] int64, a row of `candidates` that each query does not see (itself).

    Returns:
        mean over i, and over the positives p != exclude(i) of i, of
        -log( exp(cos(q_i, c_p) / t) / sum over j != exclude(i) of exp(cos(q_i, c_j) / t) ),  [].

    Source: Khosla et al., NeurIPS 2020 (eq. 2).
    """
    own = exclude[:, None]
    logits = (F.normalize(queries, dim=1) @ F.normalize(candidates, dim=1).T / temperature).scatter(1, own, -torch.inf)
    weights = positives.scatter(1, own, False).to(logits.dtype)
    found = (F.log_softmax(logits, dim=1).scatter(1, own, 0) * weights).sum(1) / weights.sum(1)
    return -found.mean()
