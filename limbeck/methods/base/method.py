"""What a method is.

A method owns parameters and state; arithmetic lives in `losses`. Reading and writing are separate: `forward` computes a
loss and changes nothing (BatchNorm statistics excepted), `after_step` updates EMA copies and queues once per optimizer
step.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.data.sampling import SamplingPlan


class Trainable(NamedTuple):
    """A method that is ready to be trained."""

    method: "Method"
    views: tuple[Any, ...]  # what the loader makes of each row, in the order of `Batch.views`
    sampling: SamplingPlan  # which rows an epoch visits, and which rows come together


class Method(nn.Module, ABC):
    """A training objective over a backbone."""

    backbone: Encoder

    @property
    def collapse_hint(self) -> str:
        """What to try when the embeddings collapse, as the end of a sentence."""
        return "lower the learning rate, warm up for longer or take a larger batch"

    @property
    def nonfinite_hint(self) -> str:
        """What to try when the loss is not finite, as the end of a sentence."""
        return "lower the learning rate or clip"

    @abstractmethod
    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the loss of a batch; reads state and writes none (BatchNorm statistics excepted)."""

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update EMA copies and queues, once after each optimizer step; the arguments are those of that step."""

    def encoder(self) -> Encoder:
        """Return the network to evaluate and export."""
        return self.backbone

    def classifier_layer(self) -> nn.Linear | None:
        """Return the trained classifier of the encoder's features, in the order of the labels; None without one."""
        return None

    def target_encoder(self) -> Encoder | None:
        """Return the network that computes the targets, or None if the trained network does."""
        return None

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the embeddings that the loss compares, on the trained side: a collapse shows here first.

        Override it where heads lie between the features and the loss.
        """
        return self.backbone(images).final
