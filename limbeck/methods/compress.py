"""CompRess: match the teacher's similarity distribution over a queue.

Abbasi Koohpayegani, Tejankar and Pirsiavash, *CompRess: Self-Supervised Learning by Compressing Representations*,
NeurIPS 2020. Defaults are those of UMBCvision/CompRess.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.losses.relation import relation, relation_divergence
from limbeck.methods.base import QueueDistiller, Teacher
from limbeck.methods.config.compress import CompRessConfig
from limbeck.models.ema import EMA


class CompRess(QueueDistiller):
    """KL of the student's distribution over a queue from the teacher's; the queue lacks the images of the batch.

    With two queues, row j of both belongs to the same image.
    """

    cfg: CompRessConfig

    def __init__(self, backbone: Encoder, cfg: CompRessConfig, teacher: Teacher) -> None:
        super().__init__(backbone, cfg, teacher)
        self.ema_encoder = EMA(backbone) if cfg.num_queues == 2 else None

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Build a linear layer, or nothing with two queues."""
        return nn.Linear(dim, teacher_dim) if self.cfg.num_queues == 1 else nn.Identity()

    def queue_widths(self) -> dict[str, int | None]:
        """Return the teacher's queue and, with two queues, one of the student's width."""
        return super().queue_widths() | ({"student": self.backbone.dim} if self.cfg.num_queues == 2 else {})

    def prefilled_queues(self) -> tuple[str, ...]:
        """Return the teacher's queue alone: the student has no features of the teacher's sample."""
        return ("teacher",)

    def distillation_loss(
        self, embedding: Float[Tensor, "B D"], batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Compute the loss, without terms."""
        vectors = teacher_output.vectors[0]
        target = relation(vectors, self.queue["teacher"], self.temperature)
        bank = self.queue["student" if self.ema_encoder else "teacher"]
        memory = {"teacher": gather(vectors)}
        if self.ema_encoder:
            with torch.no_grad():
                memory["student"] = gather(self.ema_encoder.module(batch.views[0]).final)
        return LossOutput(relation_divergence(embedding, bank, self.temperature, target), {}, memory)

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder, if there is one, and enqueue the rows."""
        if self.ema_encoder:
            self.ema_encoder.update(self.backbone, self.cfg.ema_momentum)
        super().after_step(loss, step_info)

    def target_encoder(self) -> Encoder | None:
        """Return the EMA encoder, if there is one."""
        return self.ema_encoder.module if self.ema_encoder else None
