"""ReSSL: match the EMA encoder's similarity distribution over a queue, from a strong view to a weak one.

Zheng et al., *ReSSL: Relational Self-Supervised Learning with Weak Augmentation*, NeurIPS 2021. Defaults are those of
the authors' ImageNet code, KyleZheng1997/ReSSL 4d67daa.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.core.types import Batch
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import HostOutput, QueueHost
from limbeck.methods.config.ressl import ReSSLConfig


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
