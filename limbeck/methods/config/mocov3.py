"""Options of MoCo v3, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import EMAConfig, LocalCropsConfig, MethodCard

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.mocov3 import MoCoV3


@dataclass(frozen=True, kw_only=True)
class MoCoV3Config(LocalCropsConfig, EMAConfig):
    """MoCo v3: contrast with an EMA encoder; the usual choice for ViTs, one more forward pass per view."""

    name: ClassVar[str] = "mocov3"
    card: ClassVar[MethodCard] = MethodCard(
        summary="identify the EMA encoder's embedding of the other view within the batch",
        state="EMA encoder",
        use_when="ViTs with batches of some hundreds",
        cost=2.6,
    )
    sdssl_alpha: ClassVar[float] = 1.0
    temperature: float = 0.2
    """Divides the cosines."""

    def build(self, backbone: "Encoder") -> "MoCoV3":
        """Build MoCo v3 with new heads around `backbone`; the EMA encoder starts as a copy."""
        from limbeck.methods.mocov3 import MoCoV3

        return MoCoV3(backbone, self)
