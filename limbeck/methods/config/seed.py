"""Options of SEED, with their defaults and what they are resolved to."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from limbeck.methods.config.base import MethodCard, QueueDistillConfig, as_local_crop, repeat_local_crop, teacher_view

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.core.types import Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.base import Teacher
    from limbeck.methods.seed import SEED


@dataclass(frozen=True, kw_only=True)
class SEEDConfig(QueueDistillConfig):
    """SEED: between regression and relations; the colder the teacher, the more the image's own vector counts."""

    name: ClassVar[str] = "seed"
    card: ClassVar[MethodCard] = MethodCard(
        summary="match the teacher's similarities to its vector of the image and to a queue",
        state="teacher, queue",
        use_when="teachers trained without labels; with local crops, where there is time",
        cost=1.3,
    )
    temperature: float | None = None
    """Divides the student's cosines; None: chosen for the teacher (the authors: 0.2)."""
    teacher_temperature: float | None = None
    """Divides the teacher's cosines; None: chosen for the teacher (the authors: 0.01)."""
    num_local_crops: int = 0
    """Local crops besides the view (the authors: 6), for student and teacher, compared with a queue of their own."""

    def student_teacher_views(self, views: tuple["ViewSpec", ...]) -> tuple["ViewSpec", ...]:
        """Return one view and the local crops, for student and teacher."""
        student = views[0], *repeat_local_crop(as_local_crop(views[0]), self.num_local_crops)
        return *student, *(teacher_view(view, index) for index, view in enumerate(student))

    @property
    def target_temperature(self) -> float | None:
        """The temperature of the teacher."""
        return self.teacher_temperature

    def with_teacher_defaults(self, sample: "Tensor") -> Self:
        """Return this configuration with temperatures, the same for both where none is given."""
        from limbeck.methods.base.temperature import temperature_for

        filled = super().with_teacher_defaults(sample)
        if self.teacher_temperature is not None:
            return filled
        return replace(filled, teacher_temperature=temperature_for(sample) if self.temperature else filled.temperature)

    def build_distiller(self, backbone: "Encoder", teacher: "Teacher") -> "SEED":
        """Build SEED with a new head around `backbone`."""
        from limbeck.methods.seed import SEED

        return SEED(backbone, self, teacher)
