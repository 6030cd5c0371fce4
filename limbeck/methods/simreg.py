"""SimReg: regress the teacher's vector of the same view, by cosine, through a deep head.

Navaneet, Abbasi Koohpayegani, Tejankar and Pirsiavash, *SimReg: Regression as a Simple Yet Effective Tool for
Self-supervised Knowledge Distillation*, BMVC 2021. Defaults are those of UCDvision/simreg.
"""

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.types import Batch, LossOutput, StepInfo, TeacherOutput
from limbeck.losses.alignment import cosine_distance
from limbeck.methods.base import Distiller
from limbeck.models.heads import mlp


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
