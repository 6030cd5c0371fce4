"""Anchor: SimCLR on features that are drawn to those of a frozen copy, as `limbeck adapt` trains.

The contrast is that of Chen, Kornblith, Norouzi and Hinton, *A Simple Framework for Contrastive Learning of Visual
Representations*, ICML 2020 (eq. 1). To hold what is trained on to a frozen copy of the start, in its answers, is due to
Li and Hoiem, *Learning without Forgetting*, ECCV 2016.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limbeck.core.distributed import gather, local_indices
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import ViewSpec
from limbeck.losses.alignment import cosine_distance
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import DistillConfig, Distiller, MethodCard, Teacher, teacher_view
from limbeck.models.heads import mlp


@dataclass(frozen=True, kw_only=True)
class AnchorConfig(DistillConfig):
    """Anchor: contrast views of an image, with features near the teacher's; what `limbeck adapt` trains."""

    name: ClassVar[str] = "anchor"
    card: ClassVar[MethodCard] = MethodCard(
        summary="contrast views as SimCLR does, with features near those of the weights that the run starts from",
        state="teacher",
        use_when="through `limbeck adapt`: weights that exist, and your own images",
        cost=2.2,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 8)
    hidden: int = 512
    """Width of the projector's hidden layer."""
    dim: int = 128
    """Width of the embedding that is contrasted."""
    temperature: float = 0.2
    """Divides the cosines of the contrast."""
    distance_weight: float = 1.0
    """Weight of the distances to the teacher's vectors, where that of the contrast is 1."""
    update_statistics: bool = False
    """Let BatchNorms normalize with the batch, and learn its statistics; by default the start's are used."""

    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """Return two views, for student and teacher."""
        return *views[:2], teacher_view(views[0], 0), teacher_view(views[1], 1)

    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "Anchor":
        """Build Anchor with a new projector around `backbone`."""
        return Anchor(backbone, self, teacher)


class Anchor(Distiller):
    """NT-Xent of the projections of two views, plus the distances of their features to the teacher's vectors.

    Features of the teacher's width are compared as they are, so that a student with the teacher's weights begins
    without a distance; others go through a linear layer. Both are measured from the mean of the teacher's vectors.
    """

    cfg: AnchorConfig

    def __init__(self, backbone: Encoder, cfg: AnchorConfig, teacher: Teacher) -> None:
        super().__init__(backbone, cfg, teacher)
        self.projector = mlp([teacher.dim, cfg.hidden, cfg.dim])
        self.center = teacher.sample.mean(0)
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
        center = self.center.to(features)
        targets = torch.cat(teacher_output.vectors[:2])
        distance = cosine_distance(F.normalize(features, dim=1) - center, targets - center)
        terms = {"contrast": contrast.detach(), "distance": distance.detach()}
        return LossOutput(contrast + self.cfg.distance_weight * distance, terms, {})

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the projections, in which a collapse would show."""
        return self.projector(self.head(self.backbone(images).final))
