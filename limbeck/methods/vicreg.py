"""VICReg: views of an image agree, every column of the embedding varies, and columns do not covary.

Bardes, Ponce, LeCun, *VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning*, ICLR 2022.
Defaults are those of facebookresearch/vicreg 4e12602, for a ResNet-50.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import mean_over_processes, world_size
from limbeck.core.types import Encoder
from limbeck.losses.alignment import mean_squared_error
from limbeck.losses.redundancy import covariance_penalty, variance_hinge
from limbeck.methods.base import HostConfig, MethodCard, PairHost


@dataclass(frozen=True, kw_only=True)
class VICRegConfig(HostConfig):
    """VICReg: explicit terms against a collapse, for each view by itself; a wide embedding, no EMA encoder."""

    name: ClassVar[str] = "vicreg"
    card: ClassVar[MethodCard] = MethodCard(
        summary="agree across views, with columns that vary and do not covary",
        state="-",
        use_when="a collapse is to be ruled out, with memory for a wide head, not for a second network",
        cost=3.0,
    )
    head_bias: ClassVar[bool] = True
    head_last_bias: ClassVar[bool | None] = False
    dim: int = 8192
    """Width of the embedding."""
    hidden: int = 8192
    """Width of the hidden layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift, which holds the variance by itself."""
    invariance_weight: float = 25.0
    """Weight of the mean squared difference of the views."""
    variance_weight: float = 25.0
    """Weight of the hinge on the standard deviation of the columns."""
    covariance_weight: float = 1.0
    """Weight of the covariance of different columns."""

    def build(self, backbone: Encoder) -> "VICReg":
        """Build VICReg with a new head around `backbone`."""
        return VICReg(backbone, self)


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
