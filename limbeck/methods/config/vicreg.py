"""Options of VICReg, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import LocalCropsConfig, MethodCard

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.vicreg import VICReg


@dataclass(frozen=True, kw_only=True)
class VICRegConfig(LocalCropsConfig):
    """VICReg: explicit terms against a collapse, for each view by itself; a wide embedding, no EMA encoder."""

    name: ClassVar[str] = "vicreg"
    card: ClassVar[MethodCard] = MethodCard(
        summary="agree across views, with columns that vary and do not covary",
        state="-",
        use_when="a collapse is to be ruled out, with memory for a wide head, not for a second network",
        cost=3.0,
    )
    head_bias: ClassVar[bool] = True
    head_last_bias: ClassVar[bool | None] = False
    dim: int = 8192
    """Width of the embedding."""
    hidden: int = 8192
    """Width of the hidden layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift, which holds the variance by itself."""
    invariance_weight: float = 25.0
    """Weight of the mean squared difference of the views."""
    variance_weight: float = 25.0
    """Weight of the hinge on the standard deviation of the columns."""
    covariance_weight: float = 1.0
    """Weight of the covariance of different columns."""

    def build(self, backbone: "Encoder") -> "VICReg":
        """Build VICReg with a new head around `backbone`."""
        from limbeck.methods.vicreg import VICReg

        return VICReg(backbone, self)
