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
