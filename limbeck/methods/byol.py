"""BYOL: predict the EMA encoder's embedding of the other view, without negatives.

Grill et al., *Bootstrap Your Own Latent*, NeurIPS 2020. Defaults are those of the BYOL host in hagiss/SDSSL bbd34fa:
three-layer projector, no BatchNorm at the end of the heads, momentum 0.996 -> 1.
"""

from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.losses.alignment import cosine_distance
from limbeck.methods.base import SymmetricEMAHost
from limbeck.methods.config.byol import BYOLConfig


class BYOL(SymmetricEMAHost):
    """Mean over rows of 2 - 2 cos(prediction, target), summed over the two directions."""

    cfg: BYOLConfig

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Compare each query with the target of its own image."""
        return cosine_distance(queries, local_rows(targets))
