"""Options of CompRess, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from limbeck.methods.config.base import MethodCard, QueueDistillConfig, teacher_view

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.base import Teacher
    from limbeck.methods.compress import CompRess


@dataclass(frozen=True, kw_only=True)
class CompRessConfig(QueueDistillConfig):
    """CompRess: preserve the teacher's neighborhoods; for features that are used frozen, for retrieval or k-NN."""

    name: ClassVar[str] = "compress"
    card: ClassVar[MethodCard] = MethodCard(
        summary="match the teacher's similarity distribution over a queue",
        state="teacher, queue",
        use_when="frozen features for retrieval or k-NN, with small batches",
        cost=1.6,
    )
    views: str = "supervised"
    """Preset of augmentations (docs/data.md), of which the first view is taken; this one is crop and flip."""
    queue_size: int = 128000
    """Rows of the queue, the newest of all processes; by default at most half of the store."""
    temperature: float | None = None
    """Divides the cosines of student and teacher; None: chosen for the teacher (the authors: 0.04)."""
    num_queues: Literal[1, 2] = 1
    """1: compare student and teacher with the teacher's queue, behind a linear layer; 2: compare the student's own
    features with a queue of its EMA encoder."""
    ema_momentum: float = 0.999
    """Momentum of the EMA encoder, with two queues."""

    def student_teacher_views(self, views: tuple["ViewSpec", ...]) -> tuple["ViewSpec", ...]:
        """Return one view, for student and teacher."""
        return views[0], teacher_view(views[0], 0)

    def build_distiller(self, backbone: "Encoder", teacher: "Teacher") -> "CompRess":
        """Build CompRess around `backbone`, with a new linear layer or an EMA encoder."""
        from limbeck.methods.compress import CompRess

        return CompRess(backbone, self, teacher)
