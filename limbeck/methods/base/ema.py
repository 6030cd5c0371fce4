"""Teachers that are a moving average of the student."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.schedules import cosine
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.methods.base.host import Host, HostConfig, HostOutput
from limbeck.models.ema import EMA


@dataclass(frozen=True, kw_only=True)
class EMAConfig(HostConfig):
    """A host whose targets come from a moving average of itself."""

    momentum: float = 0.996
    """Momentum of the teacher at the start."""
    momentum_schedule: Literal["cosine", "constant"] = "cosine"
    """Rise to 1 over the run along a half-cosine, or stay."""


class ProjectedEncoder(nn.Module):
    """A backbone and a projector: what a momentum teacher is made of."""

    def __init__(self, backbone: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(self, view: Tensor) -> Tensor:
        """[B C H W] -> [B D]."""
        return self.projector(self.backbone(view).final)


class EMAHost(Host):
    """A host with a teacher: an EMA of backbone and projector, in training mode, with BatchNorm statistics of its own.

    The student is what is evaluated.
    """

    cfg: EMAConfig
    collapse_hint = "raise the teacher's momentum, lower the learning rate or warm up for longer"

    def __init__(self, backbone: Encoder, cfg: EMAConfig) -> None:
        super().__init__(backbone, cfg)
        self.teacher = EMA(ProjectedEncoder(backbone, self.head.projector))

    def teach(self, view: Tensor, teacher: EMA[ProjectedEncoder] | None = None) -> Tensor:
        """A teacher's projections of a view, rows of all processes: [B C H W] -> [W*B D], without gradient."""
        with torch.no_grad():
            return gather((teacher or self.teacher).module(view))

    def follow(self, teacher: EMA[ProjectedEncoder], momentum: float, step_info: StepInfo) -> None:
        """Moves a teacher towards the student; `momentum` is that of the start, and follows the schedule."""
        constant = self.cfg.momentum_schedule == "constant"
        now = momentum if constant else cosine(momentum, 1.0, step_info.progress)
        teacher.update(ProjectedEncoder(self.backbone, self.head.projector), now)

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Moves the teacher."""
        self.follow(self.teacher, self.cfg.momentum, step_info)

    def target_encoder(self) -> Encoder:
        """The teacher's backbone."""
        return self.teacher.module.backbone


class SymmetricEMAHost(EMAHost):
    """Two views; each is predicted from the other, the target being the teacher's, and the teacher is evaluated."""

    has_predictor = True

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Student(view 2) answers to teacher(view 1), then the other way round.

        One pass, and one scope of BatchNorm, per view.
        """
        first, second = batch.views
        features = tuple(self.backbone(view, taps) for view in (second, first))
        projections = tuple(self.head.project(f.final) for f in features)
        targets = tuple(self.teach(view) for view in (first, second))
        return HostOutput(features, projections, targets, {})

    def encoder(self) -> Encoder:
        """The teacher's backbone, as the authors evaluate it."""
        return self.teacher.module.backbone
