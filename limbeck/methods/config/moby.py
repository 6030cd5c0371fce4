"""Options of MoBY, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from limbeck.methods.config.base import MethodCard
from limbeck.methods.config.mocov2 import MoCoV2Config

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.moby import MoBY


@dataclass(frozen=True, kw_only=True)
class MoBYConfig(MoCoV2Config):
    """MoBY: predict an EMA encoder among earlier images; made for transformers, with few tricks."""

    name: ClassVar[str] = "moby"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict the EMA encoder's embedding of the other view among earlier images",
        state="EMA encoder, two queues",
        use_when="ViTs with small batches",
        cost=2.4,
    )
    head_norm: ClassVar[bool] = True
    views: str = "byol"
    """Preset of augmentations (docs/data.md)."""
    dim: int = 256
    """Width of the embedding."""
    hidden: int = 4096
    """Width of the hidden layers of projector and predictor."""
    trailing_norm: bool = False
    """End projector and predictor with a BatchNorm without scale and shift."""
    queue_size: int = 4096
    """Rows of each of the two queues, the newest of all processes; by default at most half of a smaller store."""
    ema_momentum: float = 0.99
    """Momentum of the EMA encoder at the start."""
    ema_schedule: Literal["cosine", "constant"] = "cosine"
    """Raise the momentum to 1 over the run along a half-cosine, or keep it."""

    def build(self, backbone: "Encoder") -> "MoBY":
        """Build MoBY with new heads around `backbone`; the EMA encoder starts as a copy."""
        from limbeck.methods.moby import MoBY

        return MoBY(backbone, self)
