"""SEED: match the teacher's similarities to its own vector of the image and to a queue.

Fang, Wang, Wang, Zhang, Yang and Liu, *SEED: Self-supervised Distillation for Visual Representation*, ICLR 2021.
Defaults are those of jacobswan1/SEED.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, LossOutput, StepInfo, TeacherOutput
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import QueueDistiller
from limbeck.methods.config.seed import SEEDConfig
from limbeck.models.heads import mlp


class SEED(QueueDistiller):
    """Cross-entropy between two distributions over [the teacher's vector of the same view | the queue]."""

    cfg: SEEDConfig

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Build two linear layers of the student's width."""
        return mlp([dim, dim, teacher_dim], norm=False, bias=True)

    def queue_widths(self) -> dict[str, int | None]:
        """Return the teacher's queue and, with local crops, one more for them."""
        return super().queue_widths() | ({"local": self.teacher.dim} if self.cfg.num_local_crops else {})

    def distillation_loss(
        self, embedding: Float[Tensor, "B D"], batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Compute, with local crops, the terms `whole` and `local`; of the crops, the first one is enqueued."""
        whole, *crops = teacher_output.vectors[: 1 + self.cfg.num_local_crops]
        loss, memory = self.compare(embedding, whole, "teacher"), {"teacher": gather(whole)}
        if not crops:
            return LossOutput(loss, {}, memory)
        student = self.embed(torch.cat(batch.views[1 : 1 + len(crops)]))
        local = self.compare(student, torch.cat(crops), "local")
        terms = {"whole": loss.detach(), "local": local.detach()}
        return LossOutput(loss + local, terms, memory | {"local": gather(crops[0])})

    def compare(
        self, student: Float[Tensor, "B D"], teacher: Float[Tensor, "B D"], queue_name: str
    ) -> Float[Tensor, ""]:
        """Compare embeddings of the student with the teacher's vectors of the same views."""
        assert self.cfg.teacher_temperature is not None, "`with_teacher_defaults` chooses one"
        bank = self.queue[queue_name]
        target = relation(teacher, bank, self.cfg.teacher_temperature, positive=teacher)
        return relation_loss(student, bank, self.temperature, target, positive=teacher)
