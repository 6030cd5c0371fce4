"""MoCo v2: find the slow copy's embedding of the other view among those of images seen before.

He, Fan, Wu, Xie, Girshick, *Momentum Contrast for Unsupervised Visual Representation Learning*, CVPR 2020; Chen, Fan,
Girshick, He, *Improved Baselines with Momentum Contrastive Learning*, arXiv 2003.04297. Defaults are those of
facebookresearch/moco with `--mlp --moco-t 0.2 --aug-plus --cos`, for ResNet-50 on ImageNet.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.distributed import local_rows
from limbeck.core.types import Batch, Encoder
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import HostOutput, MethodCard, QueueConfig, QueueHost


@dataclass(frozen=True, kw_only=True)
class MoCoV2Config(QueueConfig):
    """Contrast against a queue of older images, so that negatives are many however small the batch."""

    name: ClassVar[str] = "mocov2"
    card: ClassVar[MethodCard] = MethodCard(
        summary="find the slow copy's embedding of the other view among older images",
        state="teacher and queue",
        use_when="small batches and many unlike images",
        cost=1.3,
    )
    head_norm: ClassVar[bool] = False
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the projector's hidden layer."""
    temperature: float = 0.2
    """Divides the cosines."""

    def build(self, backbone: Encoder) -> "MoCoV2":
        """MoCo v2 with fresh heads around `backbone`, whose teacher starts as a copy."""
        return MoCoV2(backbone, self)


class MoCoV2(QueueHost):
    """InfoNCE of student(view 1) with teacher(view 2) as the positive and the queue as the negatives."""

    cfg: MoCoV2Config

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """One pass, over view 1; its targets are the image's own key and the queue."""
        first, second = batch.views
        features = self.backbone(first, taps)
        keys = self.teach(second)
        return HostOutput((features,), (self.head.project(features.final),), (self.candidates(keys),), {"keys": keys})

    def candidates(self, keys: Tensor, stream: str = "keys") -> Tensor:
        """What the queries of this process choose from: its own rows of the keys [W*B D], then the queue; [B+K D]."""
        return torch.cat([F.normalize(local_rows(keys), dim=1), self.bank(stream)])

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Each query against its own key and the queue; no other image of the batch takes part."""
        keys, queue = targets.split([len(queries), self.cfg.queue])
        return info_nce(queries, queue, keys, self.cfg.temperature)
