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
        positives: [B] int64, the row of `candidates` that belongs to each query.
        temperature: divides the cosines.
        exclude: [B] int64, a row of `candidates` that each query does not see (itself), or None.

    Returns:
        mean over i of  -log( exp(cos(q_i, c_pos(i)) / t) / sum over j != exclude(i) of exp(cos(q_i, c_j) / t) ),  [].

    Source: Oord et al. 2018 (eq. 4); with `exclude`, NT-Xent of SimCLR (Chen et al. 2020, eq. 1).
    """
    logits = F.normalize(queries, dim=1) @ F.normalize(candidates, dim=1).T / temperature
    if exclude is not None:
        logits = logits.scatter(1, exclude[:, None], -torch.inf)
    return F.cross_entropy(logits, positives)
