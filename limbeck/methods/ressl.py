"""ReSSL: match the EMA encoder's similarity distribution over a queue, from a strong view to a weak one.

Zheng et al., *ReSSL: Relational Self-Supervised Learning with Weak Augmentation*, NeurIPS 2021. Defaults are those of
the authors' ImageNet code, KyleZheng1997/ReSSL 4d67daa.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.core.types import Batch, Encoder
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import HostOutput, MethodCard, QueueConfig, QueueHost


@dataclass(frozen=True, kw_only=True)
class ReSSLConfig(QueueConfig):
    """ReSSL: match similarities to earlier images; one backward pass per image, small batches suffice."""

    name: ClassVar[str] = "ressl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="match the EMA encoder's similarity distribution over a queue",
        state="EMA encoder, queue",
        use_when="small batches and little time: one view is trained on",
        cost=1.9,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 6)
    head_norm: ClassVar[bool] = False
    views: str = "ressl"
    """Preset of augmentations (docs/data.md); the last view goes to the EMA encoder, each other one to the student."""
    dim: int = 512
    """Width of the embedding."""
    queue_size: int = 131072
    """Rows of the queue, the newest of all processes; by default at most half of a smaller store."""
    temperature: float = 0.1
    """Divides the student's cosines."""
    target_temperature: float = 0.04
    """Divides the EMA encoder's cosines; the smaller, the fewer images count as similar."""

    def build(self, backbone: Encoder) -> "ReSSL":
        """Build ReSSL with new heads around `backbone`; the EMA encoder starts as a copy."""
        return ReSSL(backbone, self)


class ReSSL(QueueHost):
    """Cross-entropy between the two networks' distributions over the queue, which lacks the images of the batch."""

    cfg: ReSSLConfig

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass per strong view, all with the EMA encoder's distribution for the weak view as target, [B K].

        The host sums over passes while the loss is their mean. As it is linear in the target, targets are divided.
        """
        *strong, weak = batch.views
        features = tuple(self.backbone(view, taps) for view in strong)
        projections = tuple(self.head.project(f.final) for f in features)
        keys = self.ema_forward(weak)
        with torch.no_grad():
            target = relation(local_rows(keys), self.bank(), self.cfg.target_temperature) / len(strong)
        return HostOutput(features, projections, (target,) * len(strong), {"keys": keys})

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
        """Compare the queries' distribution over the queue with the EMA encoder's."""
        return relation_loss(queries, self.bank(), self.cfg.temperature, targets)
