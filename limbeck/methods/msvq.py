"""MSVQ: ReSSL with three weak views, two teachers of different inertia and a queue for each.

Peng, Long, Li, *MSVQ: Self-Supervised Learning with Multiple Sample Views and Queues*, Knowledge-Based Systems 2024.
Defaults are those of the authors' CIFAR-10 recipe, pc-cp/MSVQ 78c46d4; there is none for ImageNet.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import HostOutput, MethodCard, ProjectedEncoder, QueueConfig, QueueHost
from limbeck.models.ema import EMA


@dataclass(frozen=True, kw_only=True)
class MSVQConfig(QueueConfig):
    """Agrees with two teachers about whom an image resembles; steadier targets than ReSSL's, for two more forwards."""

    name: ClassVar[str] = "msvq"
    card: ClassVar[MethodCard] = MethodCard(
        summary="resemble other images as two slow copies say",
        state="two teachers and two queues",
        use_when="small images and small batches, with memory for three networks",
        cost=1.9,
    )
    view_count: ClassVar[tuple[int, int]] = (4, 4)
    head_norm: ClassVar[bool] = False
    views: str = "msvq"
    """Preset of augmentations (docs/data.md): the student's view, two of the first teacher, one of the second."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the projector's hidden layer."""
    queue: int = 4096
    """Rows that each queue holds, the newest of all processes; by default no more than half of a smaller store."""
    momentum: float = 0.99
    """Momentum of the first teacher."""
    second_momentum: float = 0.95
    """Momentum of the second teacher."""
    temperature: float = 0.1
    """Divides the student's cosines."""
    teacher_temperature: float = 0.04
    """Divides the teachers' cosines; the smaller, the fewer images count as alike."""

    def build(self, backbone: Encoder) -> "MSVQ":
        """MSVQ with fresh heads around `backbone`, and two teachers that start as copies."""
        return MSVQ(backbone, self)


class MSVQ(QueueHost):
    """Mean cross-entropy with three distributions: two of the first teacher over its queue, one of the second."""

    cfg: MSVQConfig
    queue_names = ("first", "second")

    def __init__(self, backbone: Encoder, cfg: MSVQConfig) -> None:
        super().__init__(backbone, cfg)
        self.second_teacher = EMA(ProjectedEncoder(backbone, self.head.projector))

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """One pass, over the strong view; as targets, per queue, the sum of the distributions over it / 3, [2 B K].

        The loss is linear in its target, so two targets over one queue are one. The first teacher's keys of the second
        view go into its queue, those of the third nowhere.
        """
        strong, kept, passing, other = batch.views
        features = self.backbone(strong, taps)
        first, second = self.teach(kept), self.teach(other, self.second_teacher)
        with torch.no_grad():
            over_first = self._target(first, "first") + self._target(self.teach(passing), "first")
            targets = torch.stack([over_first, self._target(second, "second")]) / 3
        return HostOutput(
            (features,), (self.head.project(features.final),), (targets,), {"first": first, "second": second}
        )

    def _target(self, keys: Tensor, stream: str) -> Tensor:
        return relation(local_rows(keys), self.bank(stream), self.cfg.teacher_temperature)

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """The queries' distributions over both queues against the teachers'."""
        pairs = zip(self.queue_names, targets, strict=True)
        losses = [relation_loss(queries, self.bank(s), self.cfg.temperature, target) for s, target in pairs]
        return torch.stack(losses).sum()

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Moves both teachers and pushes the keys of the step."""
        super().after_step(loss, step_info)
        self.follow(self.second_teacher, self.cfg.second_momentum, step_info)
