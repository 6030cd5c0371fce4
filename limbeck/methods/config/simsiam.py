"""Options of SimSiam, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import LocalCropsConfig, MethodCard

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.simsiam import SimSiam


@dataclass(frozen=True, kw_only=True)
class SimSiamConfig(LocalCropsConfig):
    """SimSiam: one network and a stop-gradient; the least state of all, and the least that prevents a collapse."""

    name: ClassVar[str] = "simsiam"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict the projection of the other view",
        state="-",
        use_when="a baseline without EMA encoder, queue or negatives",
        cost=2.2,
    )
    views: str = "mocov2"
    """Preset of augmentations (docs/data.md)."""
    dim: int = 2048
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the hidden layers of the projector."""
    bottleneck: int = 512
    """Width of the hidden layer of the predictor, narrower than the embedding."""

    def build(self, backbone: "Encoder") -> "SimSiam":
        """Build SimSiam with new heads around `backbone`."""
        from limbeck.methods.simsiam import SimSiam

        return SimSiam(backbone, self)
