"""Options of SimCLR, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import LocalCropsConfig, MethodCard

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.simclr import SimCLR


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig(LocalCropsConfig):
    """SimCLR: contrast within the batch, without EMA encoder or queue; for large batches."""

    name: ClassVar[str] = "simclr"
    card: ClassVar[MethodCard] = MethodCard(
        summary="identify the other view of an image within the batch",
        state="-",
        use_when="large batches and little memory for state",
        cost=2.2,
    )
    temperature: float = 0.2
    """Divides the cosines."""

    def build(self, backbone: "Encoder") -> "SimCLR":
        """Build SimCLR with new heads around `backbone`."""
        from limbeck.methods.simclr import SimCLR

        return SimCLR(backbone, self)
