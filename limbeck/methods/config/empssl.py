"""Options of EMP-SSL, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from limbeck.core.errors import UserError
from limbeck.methods.config.base import MethodCard, MultiViewConfig

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.empssl import EMPSSL


@dataclass(frozen=True, kw_only=True)
class EMPSSLConfig(MultiViewConfig):
    """EMP-SSL: few epochs of many crops; a step costs as much as all of its crops."""

    name: ClassVar[str] = "empssl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="draw many crops of an image to their mean, and spread images by the total coding rate",
        state="-",
        use_when="few epochs over few images, with small batches of many crops",
        cost=22.0,
    )
    view_count: ClassVar[tuple[int, int]] = (1, 10)
    head_bias: ClassVar[bool] = True
    views: str = "empssl"
    """Preset of augmentations (docs/data.md)."""
    num_views: int = 20
    """Crops of an image, at least 2, from the preset's views in turn."""
    dim: int = 1024
    """Width of the embedding."""
    hidden: int = 4096
    """Width of the hidden layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    invariance_weight: float = 200.0
    """Weight of the mean cosine of a crop with the mean of its image."""
    epsilon: float = 0.2
    """Square of the distortion that the coding rate allows; the smaller, the stronger images repel each other."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration; UserError for fewer than two views or an epsilon that is not above 0."""
        if self.epsilon <= 0:
            raise UserError(f"epsilon is {self.epsilon}: it must be above 0, take 0.2", code="epsilon-out-of-range")
        return super().resolve(context)

    def build(self, backbone: "Encoder") -> "EMPSSL":
        """Build EMP-SSL with a new head around `backbone`."""
        from limbeck.methods.empssl import EMPSSL

        return EMPSSL(backbone, self)
