"""Options of MoCo v2, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import MethodCard, QueueConfig

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.mocov2 import MoCoV2


@dataclass(frozen=True, kw_only=True)
class MoCoV2Config(QueueConfig):
    """MoCo v2: contrast with a queue of earlier images, so the negatives are many however small the batch."""

    name: ClassVar[str] = "mocov2"
    card: ClassVar[MethodCard] = MethodCard(
        summary="identify the EMA encoder's embedding of the other view among earlier images",
        state="EMA encoder, queue",
        use_when="small batches and many dissimilar images",
        cost=1.3,
    )
    head_norm: ClassVar[bool] = False
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the projector's hidden layer."""
    temperature: float = 0.2
    """Divides the cosines."""

    def build(self, backbone: "Encoder") -> "MoCoV2":
        """Build MoCo v2 with new heads around `backbone`; the EMA encoder starts as a copy."""
        from limbeck.methods.mocov2 import MoCoV2

        return MoCoV2(backbone, self)
