"""CompRess: the student must resemble the images of a queue as much as the teacher finds that the image does.

Abbasi Koohpayegani, Tejankar and Pirsiavash, *CompRess: Self-Supervised Learning by Compressing Representations*,
NeurIPS 2020. Defaults are those of UMBCvision/CompRess.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import ViewSpec
from limbeck.losses.relation import relation, relation_divergence
from limbeck.methods.base import MethodCard, QueueDistillConfig, QueueDistiller, Teacher, teacher_view
from limbeck.models.ema import EMA


@dataclass(frozen=True, kw_only=True)
class CompRessConfig(QueueDistillConfig):
    """Keeps the teacher's neighbourhoods: made for features that are used frozen, for retrieval or k-NN."""

    name: ClassVar[str] = "compress"
    card: ClassVar[MethodCard] = MethodCard(
        summary="resemble other images as the teacher says",
        state="a frozen teacher and a queue",
        use_when="frozen features for retrieval or k-NN, with small batches",
        cost=1.6,
    )
    views: str = "supervised"
    """Preset of augmentations (docs/data.md), of which the first view is taken; this one is crop and flip."""
    queue: int = 128000
    """Rows that the queue holds, the newest of all processes; by default at most half of the store."""
    temperature: float | None = None
    """Divides the cosines of both; None: as suits the teacher (the authors: 0.04)."""
    queues: Literal[1, 2] = 1
    """1: compare both with the teacher's queue, behind a linear layer; 2: the student's own features with a queue of
    a slow copy of it."""
    momentum: float = 0.999
    """Of the slow copy, with two queues."""

    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """One view, for both."""
        return views[0], teacher_view(views[0], 0)

    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "CompRess":
        """CompRess around `backbone`, with a fresh linear layer or a slow copy."""
        return CompRess(backbone, self, teacher)


class CompRess(QueueDistiller):
    """KL of the student's distribution over a queue from the teacher's; the queue lacks the images of the batch.

    With two queues, row j of both shows the same image.
    """

    cfg: CompRessConfig

    def __init__(self, backbone: Encoder, cfg: CompRessConfig, teacher: Teacher) -> None:
        super().__init__(backbone, cfg, teacher)
        self.slow = EMA(backbone) if cfg.queues == 2 else None

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """A linear layer, or nothing."""
        return nn.Linear(dim, teacher_dim) if self.cfg.queues == 1 else nn.Identity()

    def queue_names(self) -> dict[str, int | None]:
        """With two queues, one of the student's width."""
        return super().queue_names() | ({"student": self.backbone.dim} if self.cfg.queues == 2 else {})

    def initial_queue(self) -> tuple[str, ...]:
        """Not the student's: nothing of the student is known of the teacher's sample."""
        return ("teacher",)

    def distillation_loss(
        self, embedding: Tensor, batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """No terms."""
        vectors = teacher_output.vectors[0]
        target = relation(vectors, self.queue["teacher"], self.temperature)
        bank = self.queue["student" if self.slow else "teacher"]
        memory = {"teacher": gather(vectors)}
        if self.slow:
            with torch.no_grad():
                memory["student"] = gather(self.slow.module(batch.views[0]).final)
        return LossOutput(relation_divergence(embedding, bank, self.temperature, target), {}, memory)

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Moves the slow copy, if there is one, and pushes."""
        if self.slow:
            self.slow.update(self.backbone, self.cfg.momentum)
        super().after_step(loss, step_info)

    def target_encoder(self) -> Encoder | None:
        """The slow copy."""
        return self.slow.module if self.slow else None
