"""SimCLR: identify the other view of an image among all views of the batch.

Chen, Kornblith, Norouzi, Hinton, *A Simple Framework for Contrastive Learning of Visual Representations*, ICML 2020.
Defaults are those of the SimCLR host in hagiss/SDSSL bbd34fa: temperature 0.2, a projector of three layers that ends
with a BatchNorm.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_indices
from limbeck.core.types import Encoder
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import BatchHost, HostConfig, MethodCard


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig(HostConfig):
    """SimCLR: contrast within the batch, without EMA encoder or queue; for large batches."""

    name: ClassVar[str] = "simclr"
    card: ClassVar[MethodCard] = MethodCard(
        summary="identify the other view of an image within the batch",
        state="-",
        use_when="large batches and little memory for state",
        cost=2.2,
    )
    temperature: float = 0.2
    """Divides the cosines."""

    def build(self, backbone: Encoder) -> "SimCLR":
        """Build SimCLR with new heads around `backbone`."""
        return SimCLR(backbone, self)


class SimCLR(BatchHost):
    """NT-Xent over two views; both go through the network in one batch and share the statistics of BatchNorm."""

    cfg: SimCLRConfig

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Compute NT-Xent of [2B D] against [W*2B D]; a row's own place among the targets is left out."""
        rows = local_indices(len(queries), queries.device)
        positives = rows.roll(len(queries) // 2)
        return info_nce(queries, targets, positives, self.cfg.temperature, exclude=rows)
