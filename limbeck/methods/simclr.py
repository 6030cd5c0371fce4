"""SimCLR: each view finds the other view of its image among the whole batch.

Chen, Kornblith, Norouzi, Hinton, *A Simple Framework for Contrastive Learning of Visual Representations*, ICML 2020.
Defaults are those of the SimCLR host in hagiss/SDSSL bbd34fa: temperature 0.2, a projector of three layers that ends
with a BatchNorm.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.core.distributed import rank
from limbeck.core.types import Encoder
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import BatchHost, HostConfig, MethodCard


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig(HostConfig):
    """Contrastive learning within the batch; wants large batches, needs neither teacher nor queue."""

    name: ClassVar[str] = "simclr"
    card: ClassVar[MethodCard] = MethodCard(
        summary="find the other view of an image in the batch",
        state="nothing",
        use_when="large batches and little memory for state",
        cost=2.2,
    )
    temperature: float = 0.2
    """Divides the cosines."""

    def build(self, backbone: Encoder) -> "SimCLR":
        """SimCLR with fresh heads around `backbone`."""
        return SimCLR(backbone, self)


class SimCLR(BatchHost):
    """NT-Xent over two views; both go through the network in one batch, so BatchNorm sees both."""

    cfg: SimCLRConfig

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """NT-Xent of [2B D] against [W*2B D]; a row's own place among the targets is left out."""
        rows = torch.arange(len(queries), device=queries.device)
        offset = rank() * len(queries)
        positives = rows.roll(len(queries) // 2) + offset
        return info_nce(queries, targets, positives, self.cfg.temperature, exclude=rows + offset)
