"""DisCo: MoCo v2 of the student, with its embeddings pulled to the teacher's.

Gao, Zhuang, Lin, Cheng, Sun, Li and Shen, *DisCo: Remedying Self-supervised Learning on Lightweight Models with
Distilled Contrastive Learning*, ECCV 2022 (arXiv 2104.09124). Defaults are those of Yuting-Gao/DisCo-pytorch.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather, local_rows
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.losses.alignment import cosine_distance
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import ProjectedEncoder, QueueDistiller, Teacher
from limbeck.methods.config.disco import DisCoConfig
from limbeck.models.ema import EMA
from limbeck.models.heads import mlp


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
