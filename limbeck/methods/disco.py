"""DisCo: MoCo v2 of the student, with its embeddings pulled to the teacher's.

Gao, Zhuang, Lin, Cheng, Sun, Li and Shen, *DisCo: Remedying Self-supervised Learning on Lightweight Models with
Distilled Contrastive Learning*, ECCV 2022 (arXiv 2104.09124). Defaults are those of Yuting-Gao/DisCo-pytorch.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather, local_rows
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import ViewSpec
from limbeck.losses.alignment import cosine_distance
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import MethodCard, ProjectedEncoder, QueueDistillConfig, QueueDistiller, Teacher, teacher_view
from limbeck.models.ema import EMA
from limbeck.models.heads import mlp


@dataclass(frozen=True, kw_only=True)
class DisCoConfig(QueueDistillConfig):
    """DisCo: a self-supervised term besides the teacher's, for teachers that are weak or far from the images."""

    name: ClassVar[str] = "disco"
    card: ClassVar[MethodCard] = MethodCard(
        summary="contrast views as MoCo v2 does, with embeddings near the teacher's vectors",
        state="teacher, EMA encoder, queue",
        use_when="weak teachers, or images that the teacher was not trained on",
        cost=2.6,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 8)
    hidden: int = 2048
    """Width of the head's hidden layer: the authors' remedy, as the student's own width is a bottleneck."""
    temperature: float = 0.2
    """Divides the cosines of the contrast."""
    ema_momentum: float = 0.999
    """Momentum of the EMA encoder."""
    distance_weight: float = 32.0
    """Weight of the distances to the teacher's unit vectors, a mean over images (the authors: a sum over the 32 images
    of each of 8 processes)."""

    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """Return two views, for student and teacher."""
        return *views[:2], teacher_view(views[0], 0), teacher_view(views[1], 1)

    @property
    def target_temperature(self) -> None:
        """None: the targets are the teacher's vectors."""

    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "DisCo":
        """Build DisCo with a new head around `backbone`, and an EMA copy of both."""
        return DisCo(backbone, self, teacher)


class DisCo(QueueDistiller):
    """InfoNCE of view 1 with the EMA encoder's key of view 2 over a queue, plus the distances to the teacher's vectors.

    The EMA encoder is in training mode; the student is evaluated.
    """

    cfg: DisCoConfig

    def __init__(self, backbone: Encoder, cfg: DisCoConfig, teacher: Teacher) -> None:
        super().__init__(backbone, cfg, teacher)
        self.ema_encoder = EMA(ProjectedEncoder(self.backbone, self.head))

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Build two linear layers, with a wide one between them."""
        return mlp([dim, self.cfg.hidden, teacher_dim], norm=False, bias=True)

    def queue_widths(self) -> dict[str, int | None]:
        """Return a queue for keys of the EMA encoder, which are near the teacher's vectors."""
        return {"keys": self.teacher.dim}

    def distillation_loss(
        self, embedding: Float[Tensor, "B D"], batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Compute the terms `contrast` and `distance`, the mean squared one to the teacher, summed over two views."""
        second = batch.views[1]
        with torch.no_grad():
            keys = gather(self.ema_encoder.module(second))
        contrast = info_nce(embedding, self.queue["keys"], local_rows(keys), self.temperature)
        pairs = zip((embedding, self.embed(second)), teacher_output.vectors[:2], strict=True)
        distance = torch.stack([cosine_distance(z, t) for z, t in pairs]).sum()
        terms = {"contrast": contrast.detach(), "distance": distance.detach()}
        return LossOutput(contrast + self.cfg.distance_weight * distance, terms, {"keys": keys})

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder and enqueue its keys."""
        self.ema_encoder.update(ProjectedEncoder(self.backbone, self.head), self.cfg.ema_momentum)
        super().after_step(loss, step_info)

    def target_encoder(self) -> Encoder:
        """Return the backbone of the EMA encoder."""
        return self.ema_encoder.module.backbone
