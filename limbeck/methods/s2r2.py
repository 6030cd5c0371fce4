"""S2R2: every view ranks the other views of the batch, with those of its own image first.

Varamesh, Diba, Tuytelaars, Van Gool, *Self-Supervised Ranking for Representation Learning*, arXiv 2010.07258. This is a
reconstruction: there is no public code and only the abstracts were available, so the surrogate (Smooth-AP), the
temperature, the number of views and the head are Limbeck's choice.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import local_indices
from limbeck.core.types import Encoder
from limbeck.losses.ranking import smooth_ap
from limbeck.methods.base import BatchHost, MethodCard, MultiViewConfig


@dataclass(frozen=True, kw_only=True)
class S2R2Config(MultiViewConfig):
    """S2R2: rank whole batches instead of contrasting pairs; several views of an image, one precision per view."""

    name: ClassVar[str] = "s2r2"
    card: ClassVar[MethodCard] = MethodCard(
        summary="rank the views of an image before all other views of the batch",
        state="-",
        use_when="retrieval, and several views of an image in one batch",
        cost=4.2,
    )
    head_bias: ClassVar[bool] = True
    views: str = "simclr"
    """Preset of augmentations (docs/data.md)."""
    num_views: int = 4
    """Views of an image, at least 2, from the preset's in turn; each is a query, with the others as positives."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the hidden layer of the projector."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    temperature: float = 0.05
    """Divides differences of cosines; a lower value is nearer to the exact precision and has less gradient."""

    def build(self, backbone: Encoder) -> "S2R2":
        """Build S2R2 with a new head around `backbone`."""
        return S2R2(backbone, self)


class S2R2(BatchHost):
    """One minus the mean average precision of all views, which go through the network in one batch."""

    cfg: S2R2Config

    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Rank [W*V*B D] for the queries [V*B D]; a row's own place in the gallery is left out."""
        count, views = len(queries), self.cfg.num_views
        rows = local_indices(count, queries.device)
        others = torch.arange(1, views, device=queries.device) * (len(targets) // views)
        positives = (rows[:, None] + others) % len(targets)
        return smooth_ap(queries, targets, positives, rows, self.cfg.temperature)
