"""The space in which images are compared for a choice."""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.metrics.whitening import HalfWhitening

COMPONENTS = 32


def geometry(features: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
    """Return half-whitened principal components of the features as unit vectors, float32.

    Raises:
        UserError: all features are the same.
    """
    points = HalfWhitening.fit(features.float(), COMPONENTS)(features.float())
    lengths = points.norm(dim=1, keepdim=True)
    if not points.shape[1] or not bool((lengths > 0).any()):
        raise UserError(
            f"the features of all {len(features):,} images are the same, so none can be preferred: choose another "
            "network, or the strategy random",
            code="features-all-the-same",
        )
    return torch.where(lengths > 0, points / lengths.clamp_min(1e-12), points.new_full((1, 1), points.shape[1] ** -0.5))
