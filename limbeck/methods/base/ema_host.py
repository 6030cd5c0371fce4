"""Hosts with an EMA encoder: the targets come from a moving average of the trained network."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.schedules import cosine
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.methods.base.host import Host, HostOutput, local_crops_twice
from limbeck.methods.config.base import EMAConfig
from limbeck.models.ema import EMA


class ProjectedEncoder(nn.Module):
    """A backbone and a projector: what an EMA encoder averages."""

    def __init__(self, backbone: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(self, view: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Map images to projections."""
        return self.projector(self.backbone(view).final)


class EMAHost(Host):
    """A host with an EMA copy of backbone and projector, in training mode, with BatchNorm statistics of its own.

    The trained network is evaluated.
    """

    cfg: EMAConfig
    collapse_hint = "raise the momentum of the EMA encoder, lower the learning rate or warm up for longer"

    def __init__(self, backbone: Encoder, cfg: EMAConfig) -> None:
        super().__init__(backbone, cfg)
        self.ema_encoder = EMA(ProjectedEncoder(backbone, self.head.projector))

    def ema_forward(
        self, view: Float[Tensor, "B *item"], ema: EMA[ProjectedEncoder] | None = None
    ) -> Float[Tensor, "rows D"]:
        """Return the projections of an EMA encoder (by default the only one), rows of all processes, no gradient."""
        with torch.no_grad():
            return gather((ema or self.ema_encoder).module(view))

    def update_ema(self, ema: EMA[ProjectedEncoder], momentum: float, step_info: StepInfo) -> None:
        """Move an EMA encoder towards the trained network; `momentum` is its value at the start of the schedule."""
        constant = self.cfg.ema_schedule == "constant"
        scheduled = momentum if constant else cosine(momentum, 1.0, step_info.progress)
        ema.update(ProjectedEncoder(self.backbone, self.head.projector), scheduled)

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder."""
        self.update_ema(self.ema_encoder, self.cfg.ema_momentum, step_info)

    def target_encoder(self) -> Encoder:
        """Return the backbone of the EMA encoder."""
        return self.ema_encoder.module.backbone


class SymmetricEMAHost(EMAHost):
    """A host of two views, where each predicts the EMA encoder's projection of the other; the latter is evaluated.

    Local crops, if the preset has some, predict both projections and are not targets, as in DINO.
    """

    has_predictor = True

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run student(view 2) with target EMA(view 1), then the other way around, then every local crop with both.

        There is one pass, and one scope of BatchNorm, per view.
        """
        first, second, *local = batch.views
        features = tuple(self.backbone(view, taps) for view in (second, first, *local))
        projections = tuple(self.head.project(f.final) for f in features)
        targets = tuple(self.ema_forward(view) for view in (first, second))
        targets *= 1 + len(local)
        return HostOutput(local_crops_twice(features), local_crops_twice(projections), targets, {})

    def encoder(self) -> Encoder:
        """Return the backbone of the EMA encoder, which the authors evaluate."""
        return self.ema_encoder.module.backbone
