"""How far the vector of an image is from its nearest ones."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.neighbors.search import nearest
from limbeck.neighbors.vectors import FeatureMatrix, UnitVectors

CLOSE = 10  # neighbors that an outlier is far from


def outlier_scores(cosines: Float[NDArray[np.float32], "N K"], k: int = CLOSE) -> Float[NDArray[np.float32], " N"]:
    """Return one minus the mean of the `k` first cosines of every row, those with its nearest images, best first."""
    scores: NDArray[np.float32] = 1 - cosines[:, :k].mean(axis=1)
    return scores


def neighbor_distances(
    base: FeatureMatrix, k: int, queries: FeatureMatrix | None = None, description: str = ""
) -> Float[NDArray[np.float32], " N"]:
    """Return one minus the mean cosine of every query with the `k` nearest rows of `base`.

    Args:
        base: [N D].
        k: at most as many as there are rows to compare with.
        queries: [M D]; by default the rows of `base`, none of which is its own neighbor.
        description: text of a progress bar; no bar if empty.

    Raises:
        UserError: a row is zero or not finite.
    """
    vectors = UnitVectors(base, None, torch.device("cpu"))
    others = None if queries is None else UnitVectors(queries, None, torch.device("cpu"))
    return outlier_scores(nearest(vectors, k, others, description=description).scores.numpy(), k)


def check_neighbors(k: int, others: int) -> None:
    """Raise UserError unless there are `k` other images to compare with."""
    if k > others:
        raise UserError(
            f"k is {k} and there are {others:,} images to compare an image with: choose 1 to {others:,}, or give more "
            "images",
            code="too-many-neighbors",
        )
