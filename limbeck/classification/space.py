"""The space in which heads are fitted: half-whitened principal components of unlabeled features."""

from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.classification.linear import LinearClassifier
from limbeck.core.errors import UserError
from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.metrics.whitening import HalfWhitening

IMAGES = 10_000
"""Most images that the components are computed on."""


class Space(NamedTuple):
    """x -> (x - mean) @ projection, with a mean squared length of 1."""

    mean: Float[Tensor, " D"]
    projection: Float[Tensor, "D C"]

    @classmethod
    def fit(cls, features: Float[NDArray[np.float32], "N D"], seed: int) -> Self:
        """Return the space of a sample of features, in memory or mapped; labels play no part.

        Raises:
            UserError: all features are the same.
        """
        order = np.argsort(hash_uniforms(seed, 0, 0, np.arange(len(features)), 1)[:, 0], kind="stable")
        sample = torch.from_numpy(features[np.sort(order[:IMAGES])])
        whitening = HalfWhitening.fit(sample)
        lengths = whitening(sample).square().sum(dim=1)
        if not whitening.projection.shape[1] or not lengths.mean() > 0:
            raise UserError(
                f"the features of all {len(features):,} images are the same: choose another network or depth",
                code="features-all-the-same",
            )
        return cls(whitening.mean, whitening.projection / lengths.mean().sqrt())

    def __call__(self, features: Float[Tensor, "M D"]) -> Float[Tensor, "M C"]:
        """Apply the map."""
        return (features - self.mean) @ self.projection

    def unfold(self, head: LinearClassifier) -> LinearClassifier:
        """Return the classifier of features that gives the logits of `head` in this space."""
        weight = head.weight @ self.projection.mT
        return LinearClassifier(weight, head.bias - weight @ self.mean)
