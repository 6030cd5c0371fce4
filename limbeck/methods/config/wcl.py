"""Options of WCL, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import MethodCard, MethodConfig

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.wcl import WCL


@dataclass(frozen=True, kw_only=True)
class WCLConfig(MethodConfig):
    """WCL: contrast within the batch that does not separate similar images; for large batches."""

    name: ClassVar[str] = "wcl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="identify the other view, and draw together neighbors of neighbors in the batch",
        state="-",
        use_when="large batches in which many images resemble each other",
        cost=2.4,
    )
    not_a_host_reason: ClassVar[str] = "its loss takes two projections of every image, and a layer has one"
    views: str = "simclr"
    """Preset of augmentations (docs/data.md)."""
    dim: int = 256
    """Width of both embeddings."""
    hidden: int = 4096
    """Width of the hidden layers of both projectors."""
    temperature: float = 0.1
    """Divides the cosines, in both losses."""
    detach_keys: bool = True
    """Stop the gradient of the graph loss at the candidates. The authors' code stops it."""

    def build(self, backbone: "Encoder") -> "WCL":
        """Build WCL with two new heads around `backbone`."""
        from limbeck.methods.wcl import WCL

        return WCL(backbone, self)
