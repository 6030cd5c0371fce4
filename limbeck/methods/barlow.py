"""Barlow Twins: the cross-correlation of two views' embeddings should be the identity.

Zbontar, Jing, Misra, LeCun, Deny, *Barlow Twins: Self-Supervised Learning via Redundancy Reduction*, ICML 2021.
Defaults are those of facebookresearch/barlowtwins 8e8d284, for a ResNet-50.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import mean_over_processes
from limbeck.losses.redundancy import cross_correlation, redundancy_reduction
from limbeck.methods.base import HostOutput, PairHost
from limbeck.methods.config.barlow import BarlowConfig


class Barlow(PairHost):
    """The distance of the cross-correlation over the rows of all processes from the identity."""

    cfg: BarlowConfig

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """Return half of the loss: the other pass has the transposed matrix, and so the other half."""
        correlation = cross_correlation(queries, targets, mean_over_processes)
        return redundancy_reduction(correlation, self.cfg.off_diagonal_weight) / 2

    def loss(self, output: HostOutput) -> Float[Tensor, ""]:
        """Compute both halves of the global views from one matrix, which is large."""
        first, second, *local = output.projections
        crops = zip(local, output.targets[2:], strict=True)
        losses = [2 * self.pair_loss(first, second), *(self.pair_loss(z, t) for z, t in crops)]
        return torch.stack(losses).sum()
