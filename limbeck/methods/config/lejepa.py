"""Options of LeJEPA, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from limbeck.core.errors import UserError
from limbeck.methods.config.base import LocalCropsConfig, MethodCard

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.lejepa import LeJEPA


@dataclass(frozen=True, kw_only=True)
class LeJEPAConfig(LocalCropsConfig):
    """LeJEPA: one weight, no EMA encoder, no stop-gradient, no negatives; any number of local crops."""

    name: ClassVar[str] = "lejepa"
    card: ClassVar[MethodCard] = MethodCard(
        summary="draw all views to the mean of the global ones, with Gaussian embeddings",
        state="random directions",
        use_when="local crops on any network, one weight to tune, memory for no second network",
        cost=4.8,
    )
    head_bias: ClassVar[bool] = True
    views: str = "multicrop"
    """Preset of augmentations (docs/data.md); the mean of the first two views is the target of all."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the hidden layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    sigreg_weight: float = 0.05
    """Weight of SIGReg, between 0 and 1; the distance of the views has the rest."""
    num_directions: int = 1024
    """Random directions of a step along which the embeddings should be normal."""
    direction_seed: int = 0
    """Seed of the directions; with the step, it decides them."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration; UserError for a weight outside (0, 1) or no directions."""
        if not 0 < self.sigreg_weight < 1:
            message = f"sigreg_weight is {self.sigreg_weight}: it is a share between 0 and 1, take 0.05"
            raise UserError(message, code="sigreg-weight-out-of-range")
        if self.num_directions < 1:
            message = f"num_directions is {self.num_directions}: take at least 1, or 1024"
            raise UserError(message, code="too-few-directions")
        return self

    def build(self, backbone: "Encoder") -> "LeJEPA":
        """Build LeJEPA with a new head around `backbone`."""
        from limbeck.methods.lejepa import LeJEPA

        return LeJEPA(backbone, self)
