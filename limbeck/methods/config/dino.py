"""Options of DINO, with their defaults and what they are resolved to."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from limbeck.methods.config.base import EMAConfig, LocalCropsConfig, MethodCard, check_prototypes, resolve_freeze_steps

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.dino import DINO


@dataclass(frozen=True, kw_only=True)
class DINOConfig(LocalCropsConfig, EMAConfig):
    """DINO: match an EMA encoder from global and local crops; made for ViTs and long runs."""

    name: ClassVar[str] = "dino"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict the EMA encoder's sharpened distribution over prototypes, from every crop",
        state="EMA encoder, center",
        use_when="ViTs, and time for local crops",
        cost=6.4,
    )
    head_norm: ClassVar[bool] = False
    head_bias: ClassVar[bool] = True
    views: str = "dino"
    """Preset of augmentations (docs/data.md); the EMA encoder gets the first two views."""
    dim: int = 256
    """Width of the embedding, whose cosines with the prototypes are the output."""
    hidden: int = 2048
    """Width of the hidden layers of the projector."""
    trailing_norm: bool = False
    """End the embedding with a BatchNorm without scale and shift."""
    num_prototypes: int = 65536
    """Prototypes, at least 2; far fewer suffice for small sets of images."""
    freeze_steps: int | None = None
    """Optimizer steps at the start during which the prototypes are frozen; None: the first epoch, at most a tenth of
    the run."""
    temperature: float = 0.1
    """Divides the cosines of the trained network."""
    target_temperature: float = 0.04
    """Divides the centered cosines of the EMA encoder; above 0.07 runs become unstable."""
    center_momentum: float = 0.9
    """Momentum of the center of the EMA encoder's outputs."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with the frozen steps; UserError for fewer than two prototypes."""
        check_prototypes(self.num_prototypes, type(self).num_prototypes)
        return replace(self, freeze_steps=resolve_freeze_steps(self.freeze_steps, context))

    def build(self, backbone: "Encoder") -> "DINO":
        """Build DINO with new heads around `backbone`; the EMA encoder starts as a copy."""
        from limbeck.methods.dino import DINO

        return DINO(backbone, self)
