"""S2R2: every view ranks the other views of the batch, and those of its own image should come first.

Varamesh, Diba, Tuytelaars, Van Gool, *Self-Supervised Ranking for Representation Learning*, arXiv 2010.07258. A
reconstruction: there is no public code and only the abstracts could be read, so the surrogate (Smooth-AP), the
temperature, the number of views and the head are ours.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.core.distributed import rank
from limbeck.core.types import Encoder
from limbeck.losses.ranking import smooth_ap
from limbeck.methods.base import BatchHost, MethodCard, PositivesConfig


@dataclass(frozen=True, kw_only=True)
class S2R2Config(PositivesConfig):
    """Ranks whole batches instead of contrasting pairs: several views of an image, one average precision per view."""

    name: ClassVar[str] = "s2r2"
    card: ClassVar[MethodCard] = MethodCard(
        summary="rank the views of an image before all other views of the batch",
        state="nothing",
        use_when="retrieval, and several views of an image in one batch",
        cost=4.2,
    )
    head_bias: ClassVar[bool] = True
    views: str = "simclr"
    """Preset of augmentations (docs/data.md)."""
    positives: int = 4
    """Views of an image, at least 2, from the preset's in turn; each is a query and wants the others on top."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the hidden layer of the projector."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    temperature: float = 0.05
    """Divides differences of cosines; lower is nearer to the exact precision, and has less gradient."""

    def build(self, backbone: Encoder) -> "S2R2":
        """S2R2 with a fresh head around `backbone`."""
        return S2R2(backbone, self)


class S2R2(BatchHost):
    """One minus the mean average precision of all views; all go through the network in one batch."""

    cfg: S2R2Config

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Ranks of [W*V*B D] for [V*B D]; a row's own place in the gallery is left out."""
        count, views = len(queries), self.cfg.positives
        rows, offset = torch.arange(count, device=queries.device), rank() * count
        others = torch.arange(1, views, device=queries.device) * (count // views)
        positives = (rows[:, None] + others) % count + offset
        return smooth_ap(queries, targets, positives, rows + offset, self.cfg.temperature)
