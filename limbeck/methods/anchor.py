"""Anchor: SimCLR on features that are drawn to those of a frozen copy, as `limbeck adapt` trains.

The contrast is that of Chen, Kornblith, Norouzi and Hinton, *A Simple Framework for Contrastive Learning of Visual
Representations*, ICML 2020 (eq. 1). To hold what is trained on to a frozen copy of the start, in its answers, is due to
Li and Hoiem, *Learning without Forgetting*, ECCV 2016.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limbeck.core.distributed import gather, local_indices
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.losses.alignment import cosine_distance
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import Distiller, Teacher
from limbeck.methods.config.anchor import AnchorConfig
from limbeck.models.heads import mlp


class Anchor(Distiller):
    """NT-Xent of the projections of two views, plus the distances of their features to the teacher's vectors.

    Features of the teacher's width are compared as they are, so that a student with the teacher's weights begins
    without a distance; others go through a linear layer. Both are measured from the mean of the teacher's vectors.
    """

    cfg: AnchorConfig
    center: Tensor

    def __init__(self, backbone: Encoder, cfg: AnchorConfig, teacher: Teacher) -> None:
        super().__init__(backbone, cfg, teacher)
        self.projector = mlp([teacher.dim, cfg.hidden, cfg.dim])
        self.register_buffer("center", teacher.sample.mean(0), persistent=False)
        self.train()

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Build nothing, or a linear layer if the widths differ."""
        return nn.Identity() if dim == teacher_dim else nn.Linear(dim, teacher_dim)

    def train(self, mode: bool = True) -> "Anchor":
        """Set the mode; BatchNorms of the backbone stay in evaluation mode unless they are to learn."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, _BatchNorm) and not self.cfg.update_statistics:
                module.eval()
        return self

    def distillation_loss(
        self, embedding: Float[Tensor, "B D"], batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Compute the terms `contrast` and `distance`, each a mean over both views of all images."""
        features = torch.cat([embedding, self.head(self.backbone(batch.views[1]).final)])
        projections = self.projector(features)
        rows = local_indices(len(projections), projections.device)
        contrast = info_nce(
            projections, gather(projections), rows.roll(len(rows) // 2), self.cfg.temperature, exclude=rows
        )
        center = self.center.to(features.dtype)
        targets = torch.cat(teacher_output.vectors[:2])
        distance = cosine_distance(F.normalize(features, dim=1) - center, targets - center)
        terms = {"contrast": contrast.detach(), "distance": distance.detach()}
        return LossOutput(contrast + self.cfg.distance_weight * distance, terms, {})

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the projections, in which a collapse would show."""
        return self.projector(self.head(self.backbone(images).final))
