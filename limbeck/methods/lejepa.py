"""LeJEPA: views of an image agree, and embeddings are spread as an isotropic Gaussian.

Balestriero and LeCun, *LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics*, arXiv
2511.08544. Written from the formulas of the paper; the authors' code has a non-commercial license and was not read.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import mean_over_processes, world_size
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.losses.alignment import mean_squared_error
from limbeck.losses.gaussian import normal_deviates, sigreg
from limbeck.methods.base import Host, HostOutput, encode_views
from limbeck.methods.config.lejepa import LeJEPAConfig

GLOBAL_VIEWS = 2  # the first views of a preset, whose mean every view is drawn to
DIRECTION_DRAW = -2  # the number that the draw of directions has among the numbers of views


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
