"""SimReg: regress the teacher's vector of the same view, by cosine, through a deep head.

Navaneet, Abbasi Koohpayegani, Tejankar and Pirsiavash, *SimReg: Regression as a Simple Yet Effective Tool for
Self-supervised Knowledge Distillation*, BMVC 2021. Defaults are those of UCDvision/simreg; the heads `solved` and
`none` are ours.
"""

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.losses.alignment import cosine_distance
from limbeck.losses.kernel_alignment import cka_distance
from limbeck.methods.base import Distiller, Teacher
from limbeck.methods.config.simreg import SimRegConfig
from limbeck.models.heads import mlp
from limbeck.models.solved_head import SolvedHead


class SimReg(Distiller):
    """Mean over images of 2 - 2 cos(head(student), teacher); without a head 1 - CKA of student and teacher."""

    cfg: SimRegConfig

    def __init__(self, backbone: Encoder, cfg: SimRegConfig, teacher: Teacher) -> None:
        super().__init__(backbone, cfg, teacher)
        solves = cfg.head == "solved"
        self.solved = SolvedHead(backbone.dim, teacher.dim, cfg.moment_decay, cfg.ridge) if solves else None

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Build four linear layers, with BatchNorm and ReLU after the first and the third; nothing for other heads."""
        if self.cfg.head != "mlp":
            return nn.Identity()
        return nn.Sequential(mlp([dim, 2 * dim, dim], bias=True), mlp([dim, 2 * dim, teacher_dim], bias=True))

    def distillation_loss(
        self, embedding: Float[Tensor, "B D"], batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Compute the loss, without terms; a head that is solved needs the rows of the step."""
        target = teacher_output.vectors[0]
        if self.cfg.head == "none":
            return LossOutput(cka_distance(gather(embedding), gather(target)), {}, {})
        if self.solved is None:
            return LossOutput(cosine_distance(embedding, target), {}, {})
        memory = {"features": gather(embedding.detach()), "targets": gather(target)}
        return LossOutput(cosine_distance(self.solved(embedding), target), {}, memory)

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the moments of a head that is solved, and solve it every `solve_steps` steps, at first more often."""
        if self.solved is None:
            return
        self.solved.update(loss.memory["features"], loss.memory["targets"])
        done = step_info.step + 1
        if done % self.cfg.solve_steps == 0 or (done < self.cfg.solve_steps and done & (done - 1) == 0):
            self.solved.solve()

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the embeddings: of a head that is solved its output, without a head the features."""
        embedding = super().embed(images)
        return embedding if self.solved is None else self.solved(embedding)
