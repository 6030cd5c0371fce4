"""ReSSL: a strong view must resemble the images of a queue as much as the teacher finds that a weak view does.

Zheng et al., *ReSSL: Relational Self-Supervised Learning with Weak Augmentation*, NeurIPS 2021. Defaults are those of
the authors' ImageNet code, KyleZheng1997/ReSSL 4d67daa.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.core.types import Batch, Encoder
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import HostOutput, MethodCard, QueueConfig, QueueHost


@dataclass(frozen=True, kw_only=True)
class ReSSLConfig(QueueConfig):
    """Agrees with the teacher about whom an image resembles; one backward pass per image, small batches will do."""

    name: ClassVar[str] = "ressl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="resemble other images as the slow copy says",
        state="teacher and queue",
        use_when="small batches, and little time: one view learns",
        cost=1.9,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 6)
    head_norm: ClassVar[bool] = False
    views: str = "ressl"
    """Preset of augmentations (docs/data.md); the teacher sees the last view, the student each of the others."""
    dim: int = 512
    """Width of the embedding."""
    queue: int = 131072
    """Rows that the queue holds, the newest of all processes; by default no more than half of a smaller store."""
    temperature: float = 0.1
    """Divides the student's cosines."""
    teacher_temperature: float = 0.04
    """Divides the teacher's cosines; the smaller, the fewer images count as alike."""

    def build(self, backbone: Encoder) -> "ReSSL":
        """ReSSL with fresh heads around `backbone`, and a teacher that starts as a copy."""
        return ReSSL(backbone, self)


class ReSSL(QueueHost):
    """Cross-entropy between the two networks' distributions over the queue, which lacks the images of the batch."""

    cfg: ReSSLConfig

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """One pass per strong view, all with the teacher's distribution for the weak one as target, [B K].

        Passes are summed, and the loss is their mean and linear in the target: each gets its share of that.
        """
        *strong, weak = batch.views
        features = tuple(self.backbone(view, taps) for view in strong)
        projections = tuple(self.head.project(f.final) for f in features)
        keys = self.teach(weak)
        with torch.no_grad():
            target = relation(local_rows(keys), self.bank(), self.cfg.teacher_temperature) / len(strong)
        return HostOutput(features, projections, (target,) * len(strong), {"keys": keys})

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """The queries' distribution over the queue against the teacher's."""
        return relation_loss(queries, self.bank(), self.cfg.temperature, targets)
