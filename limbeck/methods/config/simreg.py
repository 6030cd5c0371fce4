"""Options of SimReg, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from limbeck.core.errors import UserError
from limbeck.methods.config.base import DistillConfig, MethodCard, teacher_view

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
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
    head: Literal["mlp", "solved", "none"] = "mlp"
    """Between student and teacher: trained layers; a linear map that ridge regression solves; or nothing, where the
    similarities between the images of a batch are compared (CKA)."""
    ridge: float = 0.01
    """Ridge of a solved head, in mean variances of a feature."""
    solve_steps: int = 20
    """Optimizer steps between two solutions of a solved head; at first there are more."""
    moment_decay: float = 0.95
    """Decay of a solved head's running moments in each step."""

    def __post_init__(self) -> None:
        """Raise UserError for settings of a solved head that are out of range."""
        super().__post_init__()
        if self.ridge <= 0:
            raise UserError(f"ridge is {self.ridge:g}: it must be above 0, such as 0.01", code="out-of-range")
        if self.solve_steps < 1:
            raise UserError(f"solve_steps is {self.solve_steps}: it must be at least 1", code="out-of-range")
        if not 0 <= self.moment_decay < 1:
            raise UserError(
                f"moment_decay is {self.moment_decay:g}: it must be at least 0 and below 1", code="out-of-range"
            )

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration; UserError where the head is not solved and an option of a solved one is set."""
        for name in ("ridge", "solve_steps", "moment_decay"):
            value, flag = getattr(self, name), f"--method.{name.replace('_', '-')}"
            if self.head != "solved" and value != getattr(type(self), name):
                raise UserError(
                    f"{flag} {value:g} has no effect on the head '{self.head}': leave it out, or take --method.head "
                    "solved",
                    code="no-effect",
                )
        return self

    def student_teacher_views(self, views: tuple["ViewSpec", ...]) -> tuple["ViewSpec", ...]:
        """Return one view, for student and teacher."""
        return views[0], teacher_view(views[0], 0)

    def build_distiller(self, backbone: "Encoder", teacher: "Teacher") -> "SimReg":
        """Build SimReg with a new head around `backbone`."""
        from limbeck.methods.simreg import SimReg

        return SimReg(backbone, self, teacher)
