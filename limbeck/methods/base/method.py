"""What a method is.

A method owns parameters and state; arithmetic lives in `losses`. Reading and writing are separate: `forward` computes a
loss and changes nothing (BatchNorm statistics excepted), `after_step` updates EMA copies and queues once per optimizer
step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.config import NamedConfig
from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.types import Batch, DataContext, Encoder, LossOutput, StepInfo
from limbeck.data.augment.views import PRESETS, preset
from limbeck.data.sampling import ALL_ROWS, SamplingPlan, ViewSpec, view_specs


class MethodCard(NamedTuple):
    """A method in one line of `limbeck methods`, of the README and of the page of SDSSL."""

    summary: str  # what it learns to do, with the name of the paper
    state: str  # what it needs besides the network: "-", "EMA encoder", "EMA encoder, queue", ...
    use_when: str
    cost: float  # time of a training step per image, in steps of supervised training (BENCHMARKS.md: on what)


class Trainable(NamedTuple):
    """A method that is ready to be trained."""

    method: "Method"
    views: tuple[Any, ...]  # what the loader makes of each row, in the order of `Batch.views`
    sampling: SamplingPlan  # which rows an epoch visits, and which rows come together


PrepareTeacher = Callable[[Any, tuple[Any, ...]], Any]
"""Prepare the teacher of a run: from a `DistillConfig` and its views to `DistillationInputs`."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig(NamedConfig):
    """Configuration of a method: its options, its views, and how it adapts to the data."""

    card: ClassVar[MethodCard]
    view_count: ClassVar[tuple[int, int]] = (2, 2)
    """Fewest and most views of an image that the method can compare."""
    needs_labels: ClassVar[bool] = False
    not_a_host_reason: ClassVar[str] = ""
    """Why no other method can be built on this one; empty for a host."""

    @property
    @abstractmethod
    def views(self) -> str:
        """Preset of augmentations (`limbeck.data.augment.views.PRESETS`)."""

    @classmethod
    def choose(cls, name: str) -> type["MethodConfig"]:
        """Return the configuration class of the method `name`."""
        from limbeck.methods import method_config

        chosen = method_config(name)
        if not issubclass(chosen, cls):
            message = f"no method can be built on '{name}': {chosen.not_a_host_reason}; choose another host"
            raise UserError(message, code="not-a-host")
        return chosen

    def make_views(self, size: int) -> tuple[ViewSpec, ...]:
        """Return the views that the loader makes of each image, in the order of `Batch.views`.

        Raises:
            UserError: the preset has a number of views that the method cannot compare.
        """
        views = preset(self.views, size)
        least, most = self.view_count
        if not least <= len(views) <= most:
            fitting = ", ".join(name for name in PRESETS if least <= len(preset(name, size)) <= most)
            wanted = f"{least} to {most}" if least < most else f"{least}"
            message = f"the preset '{self.views}' has {len(views)} views and {self.name} needs {wanted}"
            raise UserError(f"{message}; choose one of {fitting}", code="wrong-number-of-views")
        return view_specs(views)

    def resolve(self, context: DataContext) -> Self:
        """Return this configuration with everything filled in that depends on the data and the batch.

        Raises:
            UserError: an option does not suit the data; the message names a value that does.
        """
        return self

    def check_depths(self, depths: tuple[int, ...]) -> None:
        """Raise UserError for a layer that an encoder of these depths does not have."""

    def check_classes(self, num_classes: int) -> None:
        """Raise UserError if the method needs labels and there are not so many classes (0: not all have a label)."""

    def raise_without_teacher(self) -> None:
        """Raise UserError if the method learns from a frozen teacher."""

    def resolve_with_teacher(self, features: Float[Tensor, "M D"]) -> Resolved[Self]:
        """Return this configuration with what the teacher's `features` [M D] decide filled in, and why."""
        return Resolved(self, [])

    def prepare(
        self, encoder: Encoder, views: tuple[Any, ...], prepare_teacher: PrepareTeacher | None = None
    ) -> Trainable:
        """Return the method around `encoder` with its views and its sampling plan."""
        return Trainable(self.build(encoder), views, ALL_ROWS)

    @abstractmethod
    def build(self, backbone: Encoder) -> "Method":
        """Build the method with new heads around `backbone`."""


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

    def target_encoder(self) -> Encoder | None:
        """Return the network that computes the targets, or None if the trained network does."""
        return None

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the embeddings that the loss compares, on the trained side: a collapse shows here first.

        Override it where heads lie between the features and the loss.
        """
        return self.backbone(images).final
