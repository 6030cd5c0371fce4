"""MoBY: MoCo v2 with BYOL's predictor, views and momentum schedule, in both directions.

Xie, Lin, Yao, Zhang, Dai, Cao, Hu, *Self-Supervised Learning with Swin Transformers*, arXiv 2105.04553. Defaults are
those of SwinTransformer/Transformer-SSL 4510de1, for DeiT-S and Swin-T on ImageNet.
"""

from limbeck.core.types import Batch, LossOutput, StepInfo
from limbeck.methods.base import HostOutput
from limbeck.methods.config.moby import MoBYConfig
from limbeck.methods.mocov2 import MoCoV2


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
