"""Losses that rank a gallery by similarity and want the positives on top."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from limbeck.losses.precision import full_precision


@full_precision
def smooth_ap(
    queries: Tensor, gallery: Tensor, positives: Tensor, exclude: Tensor, temperature: float, chunk: int = 256
) -> Tensor:
    """One minus the mean average precision of the queries, with ranks that can be differentiated.

    With s_ij = cos(q_i, g_j), G the logistic function, P_i the positives of query i and A_i what it ranks, all of the
    gallery but `exclude`_i:

        AP_i = mean over p in P_i of  (1 + sum over j in P_i but p of G((s_ij - s_ip) / t))
                                    / (1 + sum over j in A_i but p of G((s_ij - s_ip) / t))

    which tends to the exact average precision as t goes to 0.

    Args:
        queries: [B D], any length of rows.
        gallery: [K D], any length of rows.
        positives: [B P] int64, the rows of `gallery` that belong to each query.
        exclude: [B] int64, the row of `gallery` that each query does not rank: itself.
        temperature: divides the differences of cosines.
        chunk: queries at a time; memory is that of chunk x P x K numbers, as a chunk is computed anew for its gradient.

    Returns:
        1 - mean over i of AP_i,  [].

    Source: Smooth-AP (Brown et al., ECCV 2020, eq. 6; Andrew-Brown1/Smooth_AP 59927ec), where a query ranks itself as
    well, and as a positive.
    """
    gallery = F.normalize(gallery, dim=1)
    rows = zip(F.normalize(queries, dim=1).split(chunk), positives.split(chunk), exclude.split(chunk), strict=True)
    found = [checkpoint(_precisions, q, gallery, p, e, temperature, use_reentrant=False) for q, p, e in rows]
    return 1 - torch.cat(found).mean()


def _precisions(queries: Tensor, gallery: Tensor, positives: Tensor, exclude: Tensor, temperature: float) -> Tensor:
    """AP of each query, [B], for unit rows."""
    similarities = (queries @ gallery.T).scatter(1, exclude[:, None], -torch.inf)
    own = similarities.gather(1, positives)
    return (_ranks(own, own, temperature) / _ranks(own, similarities, temperature)).mean(1)


def _ranks(own: Tensor, others: Tensor, temperature: float) -> Tensor:
    """Smooth rank of each of `own` [B P] among `others` [B K]; it is one of them, and counts 1 and not G(0) = 1/2."""
    return 0.5 + torch.sigmoid((others[:, None] - own[:, :, None]) / temperature).sum(2)
