"""EMP-SSL: very many crops of an image agree with their mean, and the crops of a batch fill the sphere.

Tong, Chen, Ma, LeCun, *EMP-SSL: Towards Self-Supervised Learning in One Training Epoch*, arXiv 2304.03977. Defaults are
those of the README of tsb0601/EMP-SSL 8fc3758, for a ResNet-18 on CIFAR-10.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import mean_over_processes
from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, Encoder
from limbeck.losses.alignment import cosine_distance
from limbeck.losses.coding_rate import total_coding_rate
from limbeck.methods.base import Host, HostOutput, MethodCard, MultiViewConfig, encode_views


@dataclass(frozen=True, kw_only=True)
class EMPSSLConfig(MultiViewConfig):
    """EMP-SSL: few epochs of many crops; a step costs as much as all of its crops."""

    name: ClassVar[str] = "empssl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="draw many crops of an image to their mean, and spread images by the total coding rate",
        state="-",
        use_when="few epochs over few images, with small batches of many crops",
        cost=22.0,
    )
    view_count: ClassVar[tuple[int, int]] = (1, 10)
    head_bias: ClassVar[bool] = True
    views: str = "empssl"
    """Preset of augmentations (docs/data.md)."""
    num_views: int = 20
    """Crops of an image, at least 2, from the preset's views in turn."""
    dim: int = 1024
    """Width of the embedding."""
    hidden: int = 4096
    """Width of the hidden layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    invariance_weight: float = 200.0
    """Weight of the mean cosine of a crop with the mean of its image."""
    epsilon: float = 0.2
    """Square of the distortion that the coding rate allows; the smaller, the stronger images repel each other."""

    def resolve(self, context: DataContext) -> Self:
        """Return this configuration; UserError for fewer than two views or an epsilon that is not above 0."""
        if self.epsilon <= 0:
            raise UserError(f"epsilon is {self.epsilon}: it must be above 0, take 0.2", code="epsilon-out-of-range")
        return super().resolve(context)

    def build(self, backbone: Encoder) -> "EMPSSL":
        """Build EMP-SSL with a new head around `backbone`."""
        return EMPSSL(backbone, self)


class EMPSSL(Host):
    """- weight * cosine of each crop with the mean of its image - coding rate of each view."""

    cfg: EMPSSLConfig
    collapse_hint = "lower invariance_weight or epsilon, lower the learning rate or take a larger batch"

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass over the rows [view 1; view 2; ...]; the target is the mean of an image's unit rows, [B D]."""
        features = encode_views(self.backbone, batch.views, taps)
        z = self.head.project(features.final)
        center = F.normalize(z, dim=1).unflatten(0, (len(batch.views), -1)).mean(0)
        return HostOutput((features,), (z,), (center,), {})

    def pair_loss(self, queries: Float[Tensor, "rows D"], targets: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """Draw all crops, [V*B D], to the target of their image, and spread those of each view."""
        views = len(queries) // len(targets)
        cosine = 1 - cosine_distance(queries, targets.repeat(views, 1)) / 2
        rate = total_coding_rate(queries.unflatten(0, (views, -1)), self.cfg.epsilon, mean_over_processes)
        return -self.cfg.invariance_weight * cosine - rate
