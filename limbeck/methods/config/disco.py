"""Options of DisCo, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import MethodCard, QueueDistillConfig, teacher_view

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.base import Teacher
    from limbeck.methods.disco import DisCo


@dataclass(frozen=True, kw_only=True)
class DisCoConfig(QueueDistillConfig):
    """DisCo: a self-supervised term besides the teacher's, for teachers that are weak or far from the images."""

    name: ClassVar[str] = "disco"
    card: ClassVar[MethodCard] = MethodCard(
        summary="contrast views as MoCo v2 does, with embeddings near the teacher's vectors",
        state="teacher, EMA encoder, queue",
        use_when="weak teachers, or images that the teacher was not trained on",
        cost=2.6,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 8)
    hidden: int = 2048
    """Width of the head's hidden layer: the authors' remedy, as the student's own width is a bottleneck."""
    temperature: float = 0.2
    """Divides the cosines of the contrast."""
    ema_momentum: float = 0.999
    """Momentum of the EMA encoder."""
    distance_weight: float = 32.0
    """Weight of the distances to the teacher's unit vectors, a mean over images (the authors: a sum over the 32 images
    of each of 8 processes)."""

    def student_teacher_views(self, views: tuple["ViewSpec", ...]) -> tuple["ViewSpec", ...]:
        """Return two views, for student and teacher."""
        return *views[:2], teacher_view(views[0], 0), teacher_view(views[1], 1)

    @property
    def target_temperature(self) -> None:
        """None: the targets are the teacher's vectors."""

    def build_distiller(self, backbone: "Encoder", teacher: "Teacher") -> "DisCo":
        """Build DisCo with a new head around `backbone`, and an EMA copy of both."""
        from limbeck.methods.disco import DisCo

        return DisCo(backbone, self, teacher)
