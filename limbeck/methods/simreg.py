"""SimReg: regress the teacher's vector of the same view, by cosine, through a deep head.

Navaneet, Abbasi Koohpayegani, Tejankar and Pirsiavash, *SimReg: Regression as a Simple Yet Effective Tool for
Self-supervised Knowledge Distillation*, BMVC 2021. Defaults are those of UCDvision/simreg.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import ViewSpec
from limbeck.losses.alignment import cosine_distance
from limbeck.methods.base import DistillConfig, Distiller, MethodCard, Teacher, teacher_view
from limbeck.models.heads import mlp


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

    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """Return one view, for student and teacher."""
        return views[0], teacher_view(views[0], 0)

    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "SimReg":
        """Build SimReg with a new head around `backbone`."""
        return SimReg(backbone, self, teacher)


class SimReg(Distiller):
    """Mean over images of 2 - 2 cos(head(student), teacher)."""

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Build four linear layers, with BatchNorm and ReLU after the first and the third."""
        return nn.Sequential(mlp([dim, 2 * dim, dim], bias=True), mlp([dim, 2 * dim, teacher_dim], bias=True))

    def distillation_loss(
        self, embedding: Float[Tensor, "B D"], batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Compute the loss, without terms or memory."""
        return LossOutput(cosine_distance(embedding, teacher_output.vectors[0]), {}, {})
