"""Barlow Twins: the cross-correlation of two views' embeddings should be the identity.

Zbontar, Jing, Misra, LeCun, Deny, *Barlow Twins: Self-Supervised Learning via Redundancy Reduction*, ICML 2021.
Defaults are those of facebookresearch/barlowtwins 8e8d284, for a ResNet-50.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import mean_over_processes
from limbeck.core.types import Encoder
from limbeck.losses.redundancy import cross_correlation, redundancy_reduction
from limbeck.methods.base import HostConfig, HostOutput, MethodCard, PairHost


@dataclass(frozen=True, kw_only=True)
class BarlowConfig(HostConfig):
    """Barlow Twins: decorrelate instead of contrasting; a wide embedding, no EMA encoder, no negatives."""

    name: ClassVar[str] = "barlow"
    card: ClassVar[MethodCard] = MethodCard(
        summary="make the cross-correlation of two views' embeddings the identity (Barlow Twins)",
        state="-",
        use_when="batches of 256 or more and memory for a wide head, not for a second network",
        cost=2.9,
    )
    dim: int = 8192
    """Width of the embedding; the authors found that wider is better, up to 16,384."""
    hidden: int = 8192
    """Width of the hidden layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift; the loss standardizes in any case."""
    off_diagonal_weight: float = 0.0051
    """Weight of the correlations of different columns."""

    def build(self, backbone: Encoder) -> "Barlow":
        """Build Barlow Twins with a new head around `backbone`."""
        return Barlow(backbone, self)


class Barlow(PairHost):
    """The distance of the cross-correlation over the rows of all processes from the identity."""

    cfg: BarlowConfig

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """Return half of the loss: the other pass has the transposed matrix, and so the other half."""
        correlation = cross_correlation(queries, targets, mean_over_processes)
        return redundancy_reduction(correlation, self.cfg.off_diagonal_weight) / 2

    def loss(self, output: HostOutput) -> Float[Tensor, ""]:
        """Compute both halves from one matrix, which is large."""
        return 2 * self.pair_loss(*output.projections)
