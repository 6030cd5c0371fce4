"""SimCLR: identify the other view of an image among all views of the batch.

Chen, Kornblith, Norouzi, Hinton, *A Simple Framework for Contrastive Learning of Visual Representations*, ICML 2020.
Defaults are those of the SimCLR host in hagiss/SDSSL bbd34fa: temperature 0.2, a projector of three layers that ends
with a BatchNorm.
"""

from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_indices
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import BatchHost
from limbeck.methods.config.simclr import SimCLRConfig


class SimCLR(BatchHost):
    """NT-Xent over two views; both go through the network in one batch and share the statistics of BatchNorm."""

    cfg: SimCLRConfig

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Compute NT-Xent of [2B D] against [W*2B D]; a row's own place among the targets is left out."""
        rows = local_indices(len(queries), queries.device)
        positives = rows.roll(len(queries) // 2)
        return info_nce(queries, targets, positives, self.cfg.temperature, exclude=rows)
