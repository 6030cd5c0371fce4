"""MoCo v3: identify the EMA encoder's embedding of the other view among those of the batch.

Chen, Xie, He, *An Empirical Study of Training Self-Supervised Vision Transformers*, ICCV 2021. Defaults are those of
the MoCo v3 host in hagiss/SDSSL bbd34fa: temperature 0.2, keys of all processes, momentum 0.996 -> 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_indices
from limbeck.core.types import Encoder
from limbeck.losses.contrastive import info_nce
from limbeck.methods.base import EMAConfig, MethodCard, SymmetricEMAHost


@dataclass(frozen=True, kw_only=True)
class MoCoV3Config(EMAConfig):
    """MoCo v3: contrast with an EMA encoder; the usual choice for ViTs, one more forward pass per view."""

    name: ClassVar[str] = "mocov3"
    card: ClassVar[MethodCard] = MethodCard(
        summary="identify the EMA encoder's embedding of the other view within the batch",
        state="EMA encoder",
        use_when="ViTs with batches of some hundreds",
        cost=2.6,
    )
    sdssl_alpha: ClassVar[float] = 1.0
    temperature: float = 0.2
    """Divides the cosines."""

    def build(self, backbone: Encoder) -> "MoCoV3":
        """Build MoCo v3 with new heads around `backbone`; the EMA encoder starts as a copy."""
        return MoCoV3(backbone, self)


class MoCoV3(SymmetricEMAHost):
    """InfoNCE between predictions and keys, times 2 * temperature, summed over the two directions."""

    cfg: MoCoV3Config

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Compare each query with the keys of all images; the key of its own image is the positive."""
        positives = local_indices(len(queries), queries.device)
        return 2 * self.cfg.temperature * info_nce(queries, targets, positives, self.cfg.temperature)
