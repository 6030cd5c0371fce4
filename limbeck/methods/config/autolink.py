"""Options of AutoLink, with their defaults."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from limbeck.core.errors import UserError
from limbeck.methods.config.base import MethodCard, MethodConfig

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.keypoints.network import Detector
    from limbeck.methods.autolink import AutoLink

CELLS = 16
"""Cells along each side of an image, each of which is shown or hidden."""


@dataclass(frozen=True, kw_only=True)
class AutoLinkConfig(MethodConfig):
    """AutoLink: keypoints without labels, whose edges and a few cells of the image suffice to repaint it."""

    name: ClassVar[str] = "autolink"
    card: ClassVar[MethodCard] = MethodCard(
        summary="repaint an image from a few of its cells and the edges between keypoints that a network finds in it",
        state="-",
        use_when="keypoints without labels: images of one kind of object, whole and upright",
        cost=8.3,
    )
    view_count: ClassVar[tuple[int, int]] = (1, 1)
    only_on: ClassVar[tuple[str, str] | None] = ("keypoints", "it needs a network for keypoints")
    not_a_host_reason: ClassVar[str] = "its loss compares images"
    views: str = "flip"
    """Preset of one view (docs/data.md)."""
    thickness: float = 1e-3
    """Thickness of an edge: exp(-d^2 / thickness) at a distance d, where the side of the image is 2."""
    hidden_share: float = 0.8
    """Share of the 16 x 16 cells of an image that the decoder does not see."""
    perceptual: str | None = None
    """Network by whose features images are compared: a file of safetensors with torchvision's VGG-16, or a run on
    images; by default none, and pixels are compared."""

    def make_views(self, size: int) -> "tuple[ViewSpec, ...]":
        """Return the view, of which some cells are hidden."""
        from limbeck.data.sampling import CellMask

        mask = CellMask(side=CELLS, share=self.hidden_share)
        return tuple(replace(view, mask=mask) for view in super().make_views(size))

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration; UserError for a share or a thickness that makes no sense."""
        if not 0 <= self.hidden_share <= 1:
            raise UserError(f"hidden_share is {self.hidden_share:g}: it is a share, from 0 to 1", code="out-of-range")
        if self.thickness <= 0:
            raise UserError(f"thickness is {self.thickness:g}: it must be above 0", code="out-of-range")
        return self

    def build(self, backbone: "Encoder") -> "AutoLink":
        """Build the method with a new decoder around `backbone`, which finds keypoints."""
        from limbeck.methods.autolink import AutoLink

        return AutoLink(self.as_detector(backbone), self)

    def as_detector(self, backbone: "Encoder") -> "Detector":
        """Return the network, which finds keypoints; UserError for any other."""
        from limbeck.keypoints.network import Detector

        if not isinstance(backbone, Detector):
            raise UserError(
                f"method '{self.name}' trains a network for keypoints, and '{backbone.cfg.name}' is none: leave the "
                "network out",
                code="method-not-for-data",
            )
        return backbone
