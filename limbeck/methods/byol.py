"""BYOL: predict the teacher's embedding of the other view; no negatives.

Grill et al., *Bootstrap Your Own Latent*, NeurIPS 2020. Defaults are those of the BYOL host in hagiss/SDSSL bbd34fa:
three-layer projector, no BatchNorm at the end of the heads, momentum 0.996 -> 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from limbeck.core.distributed import rank
from limbeck.core.types import Encoder
from limbeck.losses.alignment import cosine_distance
from limbeck.methods.base import EMAConfig, MethodCard, SymmetricEMAHost


@dataclass(frozen=True, kw_only=True)
class BYOLConfig(EMAConfig):
    """Predicts a moving average of itself; works with small batches, costs one more forward per view."""

    name: ClassVar[str] = "byol"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict a slow copy of the network; no negatives",
        state="teacher",
        use_when="the usual choice: small batches, any network",
        cost=2.6,
    )
    trailing_norm: bool = False
    """End projector and predictor with a BatchNorm without scale and shift (the release does not)."""

    def build(self, backbone: Encoder) -> "BYOL":
        """BYOL with fresh heads around `backbone`, whose teacher starts as a copy."""
        return BYOL(backbone, self)


class BYOL(SymmetricEMAHost):
    """Mean over rows of 2 - 2 cos(prediction, teacher), summed over the two directions."""

    cfg: BYOLConfig

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Each query against the target of its own image."""
        return cosine_distance(queries, targets.chunk(len(targets) // len(queries))[rank()])
