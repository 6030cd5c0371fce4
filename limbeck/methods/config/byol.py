"""Options of BYOL, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import EMAConfig, LocalCropsConfig, MethodCard

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.byol import BYOL


@dataclass(frozen=True, kw_only=True)
class BYOLConfig(LocalCropsConfig, EMAConfig):
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

    def build(self, backbone: "Encoder") -> "BYOL":
        """Build BYOL with new heads around `backbone`; the EMA encoder starts as a copy."""
        from limbeck.methods.byol import BYOL

        return BYOL(backbone, self)
