"""SimCLR: identify the other view of an image among all views of the batch.

Chen, Kornblith, Norouzi, Hinton, *A Simple Framework for Contrastive Learning of Visual Representations*, ICML 2020.
Defaults are those of the SimCLR host in hagiss/SDSSL bbd34fa: temperature 0.2, a projector of three layers that ends
with a BatchNorm.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_indices, world_size
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import BatchHost
from limbeck.methods.base.host import local_crops_twice
from limbeck.methods.config.simclr import SimCLRConfig


class SimCLR(BatchHost):
    """NT-Xent over two views; both go through the network in one batch and share the statistics of BatchNorm.

    A local crop takes the place of each global view in turn: the other one is its positive.
    """

    cfg: SimCLRConfig

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Compute NT-Xent of [V*B D] against [W*2B D]; a row's own place among the targets is left out."""
        count = len(targets) // world_size()
        rows = local_indices(count, queries.device)
        if len(queries) > count:
            queries = torch.cat(local_crops_twice(queries.split(count // 2)))
        pairs = len(queries) // count
        positives, own = (places.repeat(pairs) for places in (rows.roll(count // 2), rows))
        return info_nce(queries, targets, positives, self.cfg.temperature, exclude=own)
