"""MoCo v3: identify the EMA encoder's embedding of the other view among those of the batch.

Chen, Xie, He, *An Empirical Study of Training Self-Supervised Vision Transformers*, ICCV 2021. Defaults are those of
the MoCo v3 host in hagiss/SDSSL bbd34fa: temperature 0.2, keys of all processes, momentum 0.996 -> 1.
"""

from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_indices
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import SymmetricEMAHost
from limbeck.methods.config.mocov3 import MoCoV3Config


class MoCoV3(SymmetricEMAHost):
    """InfoNCE between predictions and keys, times 2 * temperature, summed over the two directions."""

    cfg: MoCoV3Config

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Compare each query with the keys of all images; the key of its own image is the positive."""
        positives = local_indices(len(queries), queries.device)
        return 2 * self.cfg.temperature * info_nce(queries, targets, positives, self.cfg.temperature)
