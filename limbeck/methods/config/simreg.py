"""Options of SimReg, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import DistillConfig, MethodCard, teacher_view

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.base import Teacher
    from limbeck.methods.simreg import SimReg


@dataclass(frozen=True, kw_only=True)
class SimRegConfig(DistillConfig):
    """SimReg: regress the teacher's vector of the same view; the cheap default, and a strong one."""

    name: ClassVar[str] = "simreg"
    card: ClassVar[MethodCard] = MethodCard(
        summary="regress the teacher's vector of the same view",
        state="teacher",
        use_when="first of all: any teacher, any batch, and the only one that needs no queue",
        cost=1.1,
    )
    views: str = "weak"
    """Preset of augmentations (docs/data.md), of which the first view is taken."""

    def student_teacher_views(self, views: tuple["ViewSpec", ...]) -> tuple["ViewSpec", ...]:
        """Return one view, for student and teacher."""
        return views[0], teacher_view(views[0], 0)

    def build_distiller(self, backbone: "Encoder", teacher: "Teacher") -> "SimReg":
        """Build SimReg with a new head around `backbone`."""
        from limbeck.methods.simreg import SimReg

        return SimReg(backbone, self, teacher)
