"""Options of Barlow Twins, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import LocalCropsConfig, MethodCard

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.barlow import Barlow


@dataclass(frozen=True, kw_only=True)
class BarlowConfig(LocalCropsConfig):
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

    def build(self, backbone: "Encoder") -> "Barlow":
        """Build Barlow Twins with a new head around `backbone`."""
        from limbeck.methods.barlow import Barlow

        return Barlow(backbone, self)
