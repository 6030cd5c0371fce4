"""MSVQ: ReSSL with three weak views, two EMA encoders of different momentum and a queue for each.

Peng, Long, Li, *MSVQ: Self-Supervised Learning with Multiple Sample Views and Queues*, Knowledge-Based Systems 2024.
Defaults are those of the authors' CIFAR-10 recipe, pc-cp/MSVQ 78c46d4; there is none for ImageNet.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import HostOutput, ProjectedEncoder, QueueHost
from limbeck.methods.config.msvq import MSVQConfig
from limbeck.models.ema import EMA


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
