"""Distances of vectors to their nearest neighbors."""

import logging
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.downstream.anomalies.config import CLOSE
from limbeck.neighbors.search import nearest
from limbeck.neighbors.vectors import FeatureMatrix, UnitVectors

logger = logging.getLogger(__name__)


class Vectors(NamedTuple):
    """One vector per image."""

    features: FeatureMatrix  # [N D]
    identities: NDArray[np.int64]  # [N], equal for identical images


def outlier_scores(cosines: Float[NDArray[np.float32], "N K"], k: int = CLOSE) -> Float[NDArray[np.float32], " N"]:
    """Return one minus the mean of the `k` first cosines of every row, those with its nearest images, best first."""
    scores: NDArray[np.float32] = 1 - cosines[:, :k].mean(axis=1)
    return scores


def neighbor_distances(
    base: Vectors, k: int, queries: Vectors | None = None, description: str = ""
) -> Float[NDArray[np.float32], " N"]:
    """Return one minus the mean cosine of every query with the `k` nearest images that are others than itself.

    Args:
        base: the images to compare with, of which identical ones count once.
        k: at most as many as there are others for every query.
        queries: by default the base.
        description: text of a progress bar; no bar if empty.

    Raises:
        UserError: a row is zero or not finite.
    """
    queries = queries or base
    rows = np.sort(np.unique(base.identities, return_index=True)[1])
    device = torch.device("cpu")
    vectors = UnitVectors(base.features, rows, device)
    found = nearest(
        vectors, min(k + 1, len(rows)), UnitVectors(queries.features, None, device), description=description
    )
    own = base.identities[rows][found.positions.numpy()] == queries.identities[:, None]
    others = np.argsort(own, axis=1, kind="stable")[:, :k]  # an image's own row is the last one
    return outlier_scores(np.take_along_axis(found.scores.numpy(), others, axis=1), k)


def resolve_neighbors(k: int | None, images: int) -> int:
    """Return the neighbors of an image among so many different ones: `k`, or by default 10 or all others if fewer.

    Raises:
        UserError: there are no `k` others.
    """
    others = images - 1
    if k is None:
        if others < CLOSE:
            logger.info("comparing with the %d nearest images instead of %d: there are no more", others, CLOSE)
        return min(CLOSE, others)
    if k > others:
        raise UserError(
            f"--k is {k}, and an image can be compared with {plural(others, 'other')}: choose 1 to {others:,}, or give "
            "more images",
            code="too-many-neighbors",
        )
    return k
