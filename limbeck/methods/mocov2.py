"""MoCo v2: identify the EMA encoder's embedding of the other view among those of earlier images.

He, Fan, Wu, Xie, Girshick, *Momentum Contrast for Unsupervised Visual Representation Learning*, CVPR 2020; Chen, Fan,
Girshick, He, *Improved Baselines with Momentum Contrastive Learning*, arXiv 2003.04297. Defaults are those of
facebookresearch/moco with `--mlp --moco-t 0.2 --aug-plus --cos`, for ResNet-50 on ImageNet.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.core.types import Batch
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import HostOutput, QueueHost
from limbeck.methods.config.mocov2 import MoCoV2Config


class MoCoV2(QueueHost):
    """InfoNCE of student(view 1) with EMA(view 2) as the positive and the queue as the negatives."""

    cfg: MoCoV2Config

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass, over view 1; its targets are the image's own key and the queue."""
        first, second = batch.views
        features = self.backbone(first, taps)
        keys = self.ema_forward(second)
        return HostOutput((features,), (self.head.project(features.final),), (self.candidates(keys),), {"keys": keys})

    def candidates(self, keys: Float[Tensor, "rows D"], name: str = "keys") -> Float[Tensor, "candidates D"]:
        """Return this process's rows of the keys, then the queue: [B+K D] of [W*B D]."""
        return torch.cat([F.normalize(local_rows(keys), dim=1), self.bank(name)])

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "candidates D"]) -> Float[Tensor, ""]:
        """Compare each query with its own key and the queue; other images of the batch do not take part."""
        keys, queue = targets.split([len(queries), self.cfg.queue_size])
        return info_nce(queries, queue, keys, self.cfg.temperature)
