"""MoCo v3: find the teacher's embedding of the other view among those of the batch.

Chen, Xie, He, *An Empirical Study of Training Self-Supervised Vision Transformers*, ICCV 2021. Defaults are those of
the MoCo v3 host in hagiss/SDSSL bbd34fa: temperature 0.2, keys of all processes, momentum 0.996 -> 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.core.distributed import rank
from limbeck.core.types import Encoder
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import EMAConfig, MethodCard, SymmetricEMAHost


@dataclass(frozen=True, kw_only=True)
class MoCoV3Config(EMAConfig):
    """Contrast against a moving average of itself; the usual choice for ViTs, costs one more forward per view."""

    name: ClassVar[str] = "mocov3"
    card: ClassVar[MethodCard] = MethodCard(
        summary="find the slow copy's embedding of the other view in the batch",
        state="teacher",
        use_when="ViTs with batches of some hundreds",
        cost=2.6,
    )
    temperature: float = 0.2
    """Divides the cosines."""

    def build(self, backbone: Encoder) -> "MoCoV3":
        """MoCo v3 with fresh heads around `backbone`, whose teacher starts as a copy."""
        return MoCoV3(backbone, self)


class MoCoV3(SymmetricEMAHost):
    """InfoNCE between predictions and teacher keys, times 2 * temperature, summed over the two directions."""

    cfg: MoCoV3Config

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Each query against the keys of all images; its own image's is the positive."""
        positives = torch.arange(len(queries), device=queries.device) + rank() * len(queries)
        return 2 * self.cfg.temperature * info_nce(queries, targets, positives, self.cfg.temperature)
