"""Options of Anchor, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import DistillConfig, MethodCard, teacher_view

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.anchor import Anchor
    from limbeck.methods.base import Teacher


@dataclass(frozen=True, kw_only=True)
class AnchorConfig(DistillConfig):
    """Anchor: contrast views of an image, with features near the teacher's; what `limbeck adapt` trains."""

    name: ClassVar[str] = "anchor"
    card: ClassVar[MethodCard] = MethodCard(
        summary="contrast views as SimCLR does, with features near those of the weights that the run starts from",
        state="teacher",
        use_when="through `limbeck adapt`: weights that exist, and your own images",
        cost=2.2,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 8)
    hidden: int = 512
    """Width of the projector's hidden layer."""
    dim: int = 128
    """Width of the embedding that is contrasted."""
    temperature: float = 0.2
    """Divides the cosines of the contrast."""
    distance_weight: float = 1.0
    """Weight of the distances to the teacher's vectors, where that of the contrast is 1."""
    update_statistics: bool = False
    """Let BatchNorms normalize with the batch, and learn its statistics; by default the start's are used."""

    def student_teacher_views(self, views: tuple["ViewSpec", ...]) -> tuple["ViewSpec", ...]:
        """Return two views, for student and teacher."""
        return *views[:2], teacher_view(views[0], 0), teacher_view(views[1], 1)

    def build_distiller(self, backbone: "Encoder", teacher: "Teacher") -> "Anchor":
        """Build Anchor with a new projector around `backbone`."""
        from limbeck.methods.anchor import Anchor

        return Anchor(backbone, self, teacher)
