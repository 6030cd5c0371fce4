"""VICReg: views of an image agree, every column of the embedding varies, and columns do not covary.

Bardes, Ponce, LeCun, *VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning*, ICLR 2022.
Defaults are those of facebookresearch/vicreg 4e12602, for a ResNet-50.
"""

from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import mean_over_processes, world_size
from limbeck.losses.alignment import mean_squared_error
from limbeck.losses.redundancy import covariance_penalty, variance_hinge
from limbeck.methods.base import PairHost
from limbeck.methods.config.vicreg import VICRegConfig


class VICReg(PairHost):
    """Invariance, and variance and covariance of each view over the rows of all processes."""

    cfg: VICRegConfig
    collapse_hint = "raise variance_weight, lower the learning rate or warm up for longer"

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """Return half of the invariance, which both passes share, and the other terms of the queries.

        The sum over both passes is the loss of the authors' code, where the variance of a view counts half.
        """
        cfg, shared = self.cfg, (world_size(), mean_over_processes)
        invariance = cfg.invariance_weight * mean_squared_error(queries, targets)
        variance = cfg.variance_weight * variance_hinge(queries, *shared)
        return (invariance + variance) / 2 + cfg.covariance_weight * covariance_penalty(queries, *shared)
