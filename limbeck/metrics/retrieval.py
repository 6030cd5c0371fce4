"""Retrieval: average precision of rankings, as revisited Oxford and Paris and copy detection compute it.

Radenović, Iscen, Tolias, Avrithis and Chum, *Revisiting Oxford and Paris*, CVPR 2018; filipradenovic/revisitop be39832
`compute_map`. The average precision is the area under the curve of precision over recall by trapezoids, not the mean of
precisions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Retrieval(NamedTuple):
    """Scores of rankings of a database; NaN for queries without a positive."""

    average_precision: Float[Tensor, " Q"]
    precision: Float[Tensor, "Q ks"]
    """Precision among the first k, or up to the last positive where that is earlier."""
    recall: Float[Tensor, "Q ks"]
    """1 where one of the first k is a positive, else 0."""


def rank_database(
    scores: Float[Tensor, "Q N"],
    positives: Bool[Tensor, "Q N"],
    ignored: Bool[Tensor, "Q N"] | None = None,
    ks: Sequence[int] = (1, 5, 10),
) -> Retrieval:
    """Rank the database for every query by its scores, the largest first, and of equal ones the first.

    Args:
        scores: of every image of the database.
        positives: what should be found.
        ignored: what is taken out of the ranking, positives included.
        ks: lengths of the list for precision and recall.
    """
    ignored = torch.zeros_like(positives) if ignored is None else ignored
    order = scores.masked_fill(ignored, -torch.inf).argsort(dim=1, descending=True, stable=True)
    relevant = (positives & ~ignored).gather(1, order)
    total = relevant.sum(dim=1)
    found, places = relevant.cumsum(dim=1), torch.arange(1, relevant.shape[1] + 1, device=scores.device)
    last = (relevant * places).amax(dim=1)
    short = torch.stack([last.clamp(max=k).clamp(min=1) for k in ks], dim=1)
    precision = found.gather(1, short - 1).double() / short
    recall = torch.stack([found[:, min(k, relevant.shape[1]) - 1] > 0 for k in ks], dim=1).double()
    nothing = (total == 0)[:, None]
    return Retrieval(
        trapezoid_precision(relevant, total),
        precision.masked_fill(nothing, torch.nan),
        recall.masked_fill(nothing, torch.nan),
    )


def trapezoid_precision(relevant: Bool[Tensor, "Q K"], total: Int[Tensor, " Q"]) -> Float[Tensor, " Q"]:
    """Return the average precision by trapezoids, in float64; NaN for queries without a positive.

    Args:
        relevant: whether each place of a ranking, the best first, holds a positive.
        total: positives of every query, of which some may be beyond the K places.
    """
    place = torch.arange(relevant.shape[1], dtype=torch.float64, device=relevant.device)
    after = relevant.cumsum(dim=1).double()
    before = torch.where(place > 0, (after - 1) / place.clamp(min=1), torch.ones_like(after))
    areas = (before + after / (place + 1)) * relevant
    return areas.sum(dim=1) / (2 * total.double()) + torch.where(total == 0, torch.nan, 0.0)
