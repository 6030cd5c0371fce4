"""MSVQ: ReSSL with three weak views, two EMA encoders of different momentum and a queue for each.

Peng, Long, Li, *MSVQ: Self-Supervised Learning with Multiple Sample Views and Queues*, Knowledge-Based Systems 2024.
Defaults are those of the authors' CIFAR-10 recipe, pc-cp/MSVQ 78c46d4; there is none for ImageNet.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import HostOutput, MethodCard, ProjectedEncoder, QueueConfig, QueueHost
from limbeck.models.ema import EMA


@dataclass(frozen=True, kw_only=True)
class MSVQConfig(QueueConfig):
    """MSVQ: match two EMA encoders' similarities; steadier targets than ReSSL's, for two more forward passes."""

    name: ClassVar[str] = "msvq"
    card: ClassVar[MethodCard] = MethodCard(
        summary="match two EMA encoders' similarity distributions over their queues",
        state="two EMA encoders, two queues",
        use_when="small images and small batches, with memory for three networks",
        cost=1.9,
    )
    view_count: ClassVar[tuple[int, int]] = (4, 4)
    head_norm: ClassVar[bool] = False
    views: str = "msvq"
    """Preset of augmentations (docs/data.md): the student's view, two of the first EMA encoder, one of the second."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the projector's hidden layer."""
    queue_size: int = 4096
    """Rows of each queue, the newest of all processes; by default at most half of a smaller store."""
    ema_momentum: float = 0.99
    """Momentum of the first EMA encoder."""
    second_ema_momentum: float = 0.95
    """Momentum of the second EMA encoder."""
    temperature: float = 0.1
    """Divides the student's cosines."""
    target_temperature: float = 0.04
    """Divides the EMA encoders' cosines; the smaller, the fewer images count as similar."""

    def build(self, backbone: Encoder) -> "MSVQ":
        """Build MSVQ with new heads around `backbone`; both EMA encoders start as copies."""
        return MSVQ(backbone, self)


class MSVQ(QueueHost):
    """Mean cross-entropy with three distributions: two of the first EMA encoder over its queue, one of the second."""

    cfg: MSVQConfig
    queue_names = ("first", "second")

    def __init__(self, backbone: Encoder, cfg: MSVQConfig) -> None:
        super().__init__(backbone, cfg)
        self.second_ema_encoder = EMA(ProjectedEncoder(backbone, self.head.projector))

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass, over the strong view; per queue, the target is the sum of its distributions / 3: [2 B K].

        The loss is linear in its target, so two targets over one queue are one. The first EMA encoder's keys of the
        second view are enqueued, those of the third are not.
        """
        strong, stored, passing, other = batch.views
        features = self.backbone(strong, taps)
        first, second = self.ema_forward(stored), self.ema_forward(other, self.second_ema_encoder)
        with torch.no_grad():
            over_first = self._target(first, "first") + self._target(self.ema_forward(passing), "first")
            targets = torch.stack([over_first, self._target(second, "second")]) / 3
        return HostOutput(
            (features,), (self.head.project(features.final),), (targets,), {"first": first, "second": second}
        )

    def _target(self, keys: Float[Tensor, "rows D"], name: str) -> Float[Tensor, "B K"]:
        return relation(local_rows(keys), self.bank(name), self.cfg.target_temperature)

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "2 B K"]) -> Float[Tensor, ""]:
        """Compare the queries' distributions over both queues with the EMA encoders'."""
        pairs = zip(self.queue_names, targets, strict=True)
        losses = [relation_loss(queries, self.bank(s), self.cfg.temperature, target) for s, target in pairs]
        return torch.stack(losses).sum()

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update both EMA encoders and enqueue the keys of the step."""
        super().after_step(loss, step_info)
        self.update_ema(self.second_ema_encoder, self.cfg.second_ema_momentum, step_info)
