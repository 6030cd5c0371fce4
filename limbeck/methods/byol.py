"""BYOL: predict the EMA encoder's embedding of the other view, without negatives.

Grill et al., *Bootstrap Your Own Latent*, NeurIPS 2020. Defaults are those of the BYOL host in hagiss/SDSSL bbd34fa:
three-layer projector, no BatchNorm at the end of the heads, momentum 0.996 -> 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.core.types import Encoder
from limbeck.losses.alignment import cosine_distance
from limbeck.methods.base import EMAConfig, MethodCard, SymmetricEMAHost


@dataclass(frozen=True, kw_only=True)
class BYOLConfig(EMAConfig):
    """BYOL: no negatives, so small batches suffice; one more forward pass per view."""

    name: ClassVar[str] = "byol"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict the EMA encoder's embedding of the other view, without negatives",
        state="EMA encoder",
        use_when="the usual choice: small batches, any network",
        cost=2.6,
    )
    trailing_norm: bool = False
    """End projector and predictor with a BatchNorm without scale and shift (the release does not)."""

    def build(self, backbone: Encoder) -> "BYOL":
        """Build BYOL with new heads around `backbone`; the EMA encoder starts as a copy."""
        return BYOL(backbone, self)


class BYOL(SymmetricEMAHost):
    """Mean over rows of 2 - 2 cos(prediction, target), summed over the two directions."""

    cfg: BYOLConfig

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Compare each query with the target of its own image."""
        return cosine_distance(queries, local_rows(targets))
