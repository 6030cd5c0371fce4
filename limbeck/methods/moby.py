"""MoBY: MoCo v2 with BYOL's predictor, views and schedule of the teacher, in both directions.

Xie, Lin, Yao, Zhang, Dai, Cao, Hu, *Self-Supervised Learning with Swin Transformers*, arXiv 2105.04553. Defaults are
those of SwinTransformer/Transformer-SSL 4510de1, for DeiT-S and Swin-T on ImageNet.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.methods import mocov2
from limbeck.methods.base import HostOutput, MethodCard
from limbeck.methods.mocov2 import MoCoV2


@dataclass(frozen=True, kw_only=True)
class MoBYConfig(mocov2.MoCoV2Config):
    """Predicts a moving average of itself among older images; made for transformers, with few tricks."""

    name: ClassVar[str] = "moby"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict the slow copy's embedding of the other view among older images",
        state="teacher and queue",
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
    queue: int = 4096
    """Rows of each of the two queues, the newest of all processes; by default no more than half of a smaller store."""
    momentum: float = 0.99
    """Momentum of the teacher at the start."""
    momentum_schedule: Literal["cosine", "constant"] = "cosine"
    """Rise to 1 over the run along a half-cosine, or stay."""

    def build(self, backbone: Encoder) -> "MoBY":
        """MoBY with fresh heads around `backbone`, whose teacher starts as a copy."""
        return MoBY(backbone, self)


class MoBY(MoCoV2):
    """MoCo v2's loss of predictions, summed over both directions, with a queue for the keys of each view."""

    cfg: MoBYConfig
    has_predictor = True
    queue_names = ("first", "second")

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Student(view 1) chooses from teacher(view 2) and its queue, student(view 2) from teacher(view 1) and its own.

        One pass, and one scope of BatchNorm, per view.
        """
        features = tuple(self.backbone(view, taps) for view in batch.views)
        projections = tuple(self.head.project(f.final) for f in features)
        first, second = (self.teach(view) for view in batch.views)
        targets = self.candidates(second, "second"), self.candidates(first, "first")
        return HostOutput(features, projections, targets, {"first": first, "second": second})

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Moves the teacher, with the momentum of the step to come, for which the authors move it; pushes the keys."""
        super().after_step(loss, step_info._replace(step=step_info.step + 1))
