"""Options of S2R2, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import MethodCard, MultiViewConfig

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.s2r2 import S2R2


@dataclass(frozen=True, kw_only=True)
class S2R2Config(MultiViewConfig):
    """S2R2: rank whole batches instead of contrasting pairs; several views of an image, one precision per view."""

    name: ClassVar[str] = "s2r2"
    card: ClassVar[MethodCard] = MethodCard(
        summary="rank the views of an image before all other views of the batch",
        state="-",
        use_when="retrieval, and several views of an image in one batch",
        cost=4.2,
    )
    head_bias: ClassVar[bool] = True
    views: str = "simclr"
    """Preset of augmentations (docs/data.md)."""
    num_views: int = 4
    """Views of an image, at least 2, from the preset's in turn; each is a query, with the others as positives."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the hidden layer of the projector."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    temperature: float = 0.05
    """Divides differences of cosines; a lower value is nearer to the exact precision and has less gradient."""

    def build(self, backbone: "Encoder") -> "S2R2":
        """Build S2R2 with a new head around `backbone`."""
        from limbeck.methods.s2r2 import S2R2

        return S2R2(backbone, self)
