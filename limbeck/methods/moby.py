"""MoBY: MoCo v2 with BYOL's predictor, views and momentum schedule, in both directions.

Xie, Lin, Yao, Zhang, Dai, Cao, Hu, *Self-Supervised Learning with Swin Transformers*, arXiv 2105.04553. Defaults are
those of SwinTransformer/Transformer-SSL 4510de1, for DeiT-S and Swin-T on ImageNet.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.methods.base import HostOutput, MethodCard
from limbeck.methods.mocov2 import MoCoV2, MoCoV2Config


@dataclass(frozen=True, kw_only=True)
class MoBYConfig(MoCoV2Config):
    """MoBY: predict an EMA encoder among earlier images; made for transformers, with few tricks."""

    name: ClassVar[str] = "moby"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict the EMA encoder's embedding of the other view among earlier images",
        state="EMA encoder, two queues",
        use_when="ViTs with small batches",
        cost=2.4,
    )
    head_norm: ClassVar[bool] = True
    views: str = "byol"
    """Preset of augmentations (docs/data.md)."""
    dim: int = 256
    """Width of the embedding."""
    hidden: int = 4096
    """Width of the hidden layers of projector and predictor."""
    trailing_norm: bool = False
    """End projector and predictor with a BatchNorm without scale and shift."""
    queue_size: int = 4096
    """Rows of each of the two queues, the newest of all processes; by default at most half of a smaller store."""
    ema_momentum: float = 0.99
    """Momentum of the EMA encoder at the start."""
    ema_schedule: Literal["cosine", "constant"] = "cosine"
    """Raise the momentum to 1 over the run along a half-cosine, or keep it."""

    def build(self, backbone: Encoder) -> "MoBY":
        """Build MoBY with new heads around `backbone`; the EMA encoder starts as a copy."""
        return MoBY(backbone, self)


class MoBY(MoCoV2):
    """MoCo v2's loss of predictions, summed over both directions, with a queue for the keys of each view."""

    cfg: MoBYConfig
    has_predictor = True
    queue_names = ("first", "second")

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Compare student(view 1) with EMA(view 2) and its queue, and student(view 2) with EMA(view 1) and its queue.

        There is one pass, and one scope of BatchNorm, per view.
        """
        features = tuple(self.backbone(view, taps) for view in batch.views)
        projections = tuple(self.head.project(f.final) for f in features)
        first, second = (self.ema_forward(view) for view in batch.views)
        targets = self.candidates(second, "second"), self.candidates(first, "first")
        return HostOutput(features, projections, targets, {"first": first, "second": second})

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder with the momentum of the next step, as the authors do, and enqueue the keys."""
        super().after_step(loss, step_info._replace(step=step_info.step + 1))
