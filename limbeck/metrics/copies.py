"""Copy detection: find the original of a manipulated image among others, by cosine.

Douze, Jégou, Sandhawalia, Amsaleg and Schmid, *Evaluation of GIST descriptors for web-scale image search*, CIVR 2009
(Copydays); features and whitening as in facebookresearch/dino 7c446df `eval_copy_detection.py`, `utils.PCA`.
"""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.metrics.retrieval import trapezoid_precision

POWER, FLOOR = 4, 1e-6
SHORT = 20  # places of a ranking that are looked at


def gem(maps: Float[Tensor, "B C *places"]) -> Float[Tensor, "B C"]:
    """Return the generalized mean of each channel over the places, with power 4; values below 1e-6 count as 1e-6."""
    return maps.flatten(2).clamp(min=FLOOR).pow(POWER).mean(dim=2).pow(1 / POWER)


class CopyWhitening(NamedTuple):
    """Subtract the mean, and scale all principal directions to variance 1: (x - mean) @ projection.T."""

    mean: Float[Tensor, " D"]
    projection: Float[Tensor, "D D"]

    @classmethod
    def fit(cls, features: Float[Tensor, "N D"]) -> Self:
        """Fit to the features of other images.

        As in the authors' code, the second moments are not centered, though the mean is subtracted later; eigenvalues
        are at least 1e-5 of the largest.
        """
        values, vectors = torch.linalg.eigh(features.mT @ features / len(features))
        scales = values.clamp(min=1e-5 * values.max()).rsqrt()
        return cls(features.mean(dim=0), scales.flip(0)[:, None] * vectors.mT.flip(0))

    def __call__(self, features: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Return whitened features."""
        return (features - self.mean) @ self.projection.mT


def copy_precision(
    queries: Float[Tensor, "Q D"], database: Float[Tensor, "N D"], originals: Int[Tensor, " Q"]
) -> Float[Tensor, " Q"]:
    """Return the average precision (by trapezoids, of the first 20 places) of every query.

    Args:
        queries: features of manipulated images.
        database: features of originals and distractors.
        originals: the row of the database that each query was made from.
    """
    cosines = F.normalize(queries, dim=1) @ F.normalize(database, dim=1).mT
    best = cosines.topk(min(SHORT, len(database)), dim=1).indices
    return trapezoid_precision(best == originals[:, None], torch.ones_like(originals))
