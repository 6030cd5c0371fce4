"""Ranking losses: sort a gallery by similarity with the positives first."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from limbeck.losses.precision import full_precision


@full_precision
def smooth_ap(
    queries: Float[Tensor, "B D"],
    gallery: Float[Tensor, "K D"],
    positives: Int[Tensor, "B P"],
    exclude: Int[Tensor, " B"],
    temperature: float,
    chunk: int = 256,
) -> Float[Tensor, ""]:
    """Return one minus the mean average precision of the queries, with differentiable ranks.

    With s_ij = cos(q_i, g_j), G the logistic function, P_i the positives of query i and A_i the gallery without
    `exclude`_i:

        AP_i = mean over p in P_i of  (1 + sum over j in P_i but p of G((s_ij - s_ip) / t))
                                    / (1 + sum over j in A_i but p of G((s_ij - s_ip) / t))

    which tends to the exact average precision as t goes to 0.

    Args:
        queries: rows of any length.
        gallery: rows of any length.
        positives: int64 rows of the gallery that belong to each query.
        exclude: int64 row of the gallery that each query does not rank: itself.
        temperature: divides the differences of cosines.
        chunk: queries at a time; memory is that of chunk x P x K numbers, because chunks are recomputed in the
            backward pass.

    Returns:
        1 - mean over i of AP_i.

    Source: Smooth-AP (Brown et al., ECCV 2020, eq. 6; Andrew-Brown1/Smooth_AP 59927ec), where a query also ranks
    itself, as a positive.
    """
    gallery = F.normalize(gallery, dim=1)
    rows = zip(F.normalize(queries, dim=1).split(chunk), positives.split(chunk), exclude.split(chunk), strict=True)
    found = [checkpoint(_precisions, q, gallery, p, e, temperature, use_reentrant=False) for q, p, e in rows]
    return 1 - torch.cat(found).mean()


def _precisions(
    queries: Float[Tensor, "B D"],
    gallery: Float[Tensor, "K D"],
    positives: Int[Tensor, "B P"],
    exclude: Int[Tensor, " B"],
    temperature: float,
) -> Float[Tensor, " B"]:
    """Return the average precision of each query; all rows have unit length."""
    similarities = (queries @ gallery.T).scatter(1, exclude[:, None], -torch.inf)
    found = similarities.gather(1, positives)
    return (_ranks(found, found, temperature) / _ranks(found, similarities, temperature)).mean(1)


def _ranks(ranked: Float[Tensor, "B P"], among: Float[Tensor, "B K"], temperature: float) -> Float[Tensor, "B P"]:
    """Return the smooth rank of each of `ranked` in `among`, which contains it: it counts 1 and not G(0) = 1/2."""
    return 0.5 + torch.sigmoid((among[:, None] - ranked[:, :, None]) / temperature).sum(2)
