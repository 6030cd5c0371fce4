"""CompRess: match the teacher's similarity distribution over a queue.

Abbasi Koohpayegani, Tejankar and Pirsiavash, *CompRess: Self-Supervised Learning by Compressing Representations*,
NeurIPS 2020. Defaults are those of UMBCvision/CompRess.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import ViewSpec
from limbeck.losses.relation import relation, relation_divergence
from limbeck.methods.base import MethodCard, QueueDistillConfig, QueueDistiller, Teacher, teacher_view
from limbeck.models.ema import EMA


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

    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """Return one view, for student and teacher."""
        return views[0], teacher_view(views[0], 0)

    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "CompRess":
        """Build CompRess around `backbone`, with a new linear layer or an EMA encoder."""
        return CompRess(backbone, self, teacher)


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
