"""LeJEPA: views of an image agree, and embeddings are spread as an isotropic Gaussian.

Balestriero and LeCun, *LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics*, arXiv
2511.08544. Written from the formulas of the paper; the authors' code has a non-commercial license and was not read.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import mean_over_processes, world_size
from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, Encoder, LossOutput, StepInfo
from limbeck.data.augment.params import hash_uniforms
from limbeck.losses.alignment import mean_squared_error
from limbeck.losses.gaussian import normal_deviates, sigreg
from limbeck.methods.base import Host, HostConfig, HostOutput, MethodCard, encode_views

GLOBAL_VIEWS = 2  # the first views of a preset, whose mean every view is drawn to
DIRECTION_DRAW = -2  # the number that the draw of directions has among the numbers of views


@dataclass(frozen=True, kw_only=True)
class LeJEPAConfig(HostConfig):
    """LeJEPA: one weight, no EMA encoder, no stop-gradient, no negatives; any number of local crops."""

    name: ClassVar[str] = "lejepa"
    card: ClassVar[MethodCard] = MethodCard(
        summary="draw all views to the mean of the global ones, with Gaussian embeddings",
        state="random directions",
        use_when="local crops on any network, one weight to tune, memory for no second network",
        cost=4.8,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 10)
    head_bias: ClassVar[bool] = True
    views: str = "multicrop"
    """Preset of augmentations (docs/data.md); the mean of the first two views is the target of all."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the hidden layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    sigreg_weight: float = 0.05
    """Weight of SIGReg, between 0 and 1; the distance of the views has the rest."""
    num_directions: int = 1024
    """Random directions of a step along which the embeddings should be normal."""
    direction_seed: int = 0
    """Seed of the directions; with the step, it decides them."""

    def resolve(self, context: DataContext) -> Self:
        """Return this configuration; UserError for a weight outside (0, 1) or no directions."""
        if not 0 < self.sigreg_weight < 1:
            message = f"sigreg_weight is {self.sigreg_weight}: it is a share between 0 and 1, take 0.05"
            raise UserError(message, code="sigreg-weight-out-of-range")
        if self.num_directions < 1:
            message = f"num_directions is {self.num_directions}: take at least 1, or 1024"
            raise UserError(message, code="too-few-directions")
        return self

    def build(self, backbone: Encoder) -> "LeJEPA":
        """Build LeJEPA with a new head around `backbone`."""
        return LeJEPA(backbone, self)


class LeJEPA(Host):
    """(1 - weight) * mean squared distance of views to the mean of the global ones + weight * SIGReg of each view."""

    cfg: LeJEPAConfig
    directions: Tensor  # [num_directions D], of the next step
    collapse_hint = "raise sigreg_weight, lower the learning rate or take a larger batch"

    def __init__(self, backbone: Encoder, cfg: LeJEPAConfig) -> None:
        super().__init__(backbone, cfg)
        self.register_buffer("directions", self._directions(0))

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass over the rows [view 1; view 2; ...]; the target is the mean of the global views, [B D]."""
        features = encode_views(self.backbone, batch.views, taps)
        z = self.head.project(features.final)
        center = z.unflatten(0, (len(batch.views), -1))[:GLOBAL_VIEWS].mean(0)
        return HostOutput((features,), (z,), (center,), {})

    def pair_loss(self, queries: Float[Tensor, "rows D"], targets: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """Draw all views, [V*B D], to the target of their image, and each view to a Gaussian."""
        views = queries.unflatten(0, (-1, len(targets)))
        spread = sigreg(views, self.directions, world_size(), mean_over_processes)
        distance = mean_squared_error(queries, targets.repeat(len(views), 1))
        weight = self.cfg.sigreg_weight
        return (1 - weight) * distance + weight * spread

    @torch.no_grad()
    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Draw the directions of the next step."""
        self.directions.copy_(self._directions(step_info.step + 1))

    def _directions(self, step: int) -> Float[Tensor, "M D"]:
        """Return unit vectors that are a hash of (seed, step, direction): the same in every process."""
        cfg = self.cfg
        rows, even = np.arange(cfg.num_directions), cfg.dim + cfg.dim % 2
        uniforms = torch.from_numpy(hash_uniforms(cfg.direction_seed, step, DIRECTION_DRAW, rows, even))
        return F.normalize(normal_deviates(uniforms)[:, : cfg.dim], dim=1).to(torch.get_default_dtype())
