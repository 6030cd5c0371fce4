"""What a method is.

A method owns what is learnt or remembered; arithmetic lives in `losses`. Asking is separate from telling: `forward`
computes a loss and changes nothing (BatchNorm statistics excepted), `after_step` moves averages and queues, once per
optimiser step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from limbeck.core.config import NamedConfig
from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.types import Batch, DataContext, Encoder, LossOutput, StepInfo
from limbeck.data.augment.views import PRESETS, preset
from limbeck.data.sampling import ALL_ROWS, SamplingPlan, ViewSpec, view_specs


class MethodCard(NamedTuple):
    """What `limbeck methods` says of a method."""

    summary: str
    state: str  # beside the network: "nothing", "teacher", "queue", "teacher and queue"
    use_when: str
    cost: float  # time of a training step per image, in steps of supervised training (BENCHMARKS.md says of what)


class Trainable(NamedTuple):
    """A method that is ready to be trained."""

    method: "Method"
    views: tuple[Any, ...]  # what the loader makes of each row, in the order of `Batch.views`
    sampling: SamplingPlan  # which rows an epoch visits, and which rows come together


PrepareTeacher = Callable[[Any, tuple[Any, ...]], Any]
"""Prepare the teacher of a run: from a `DistillConfig` and its views to `DistillationInputs`."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig(NamedConfig):
    """What every method's configuration answers: which views it wants, whether it suits the data, the method itself."""

    card: ClassVar[MethodCard]
    view_count: ClassVar[tuple[int, int]] = (2, 2)
    """Fewest and most views of an image that the method can compare."""
    not_a_host_reason: ClassVar[str] = ""
    """Why no other method can be built on this one, where none can."""

    @property
    @abstractmethod
    def views(self) -> str:
        """Preset of augmentations (`limbeck.data.augment.views.PRESETS`)."""

    @classmethod
    def choose(cls, name: str) -> type["MethodConfig"]:
        """The configuration class of the method `name`."""
        from limbeck.methods import method_config

        chosen = method_config(name)
        if not issubclass(chosen, cls):
            raise UserError(f"no method can be built on '{name}': {chosen.not_a_host_reason}; choose another host")
        return chosen

    def make_views(self, size: int) -> tuple[ViewSpec, ...]:
        """What the loader makes of each image, in the order of `Batch.views`; raises UserError for an unfit preset."""
        views = preset(self.views, size)
        least, most = self.view_count
        if not least <= len(views) <= most:
            fit = [name for name in PRESETS if least <= len(preset(name, size)) <= most]
            wanted = f"{least} to {most}" if least < most else f"{least}"
            raise UserError(
                f"the views '{self.views}' are {len(views)} of each image and {self.name} compares {wanted}; "
                f"choose one of {', '.join(fit)}"
            )
        return view_specs(views)

    def resolve(self, context: DataContext) -> Self:
        """This configuration with what the data and the batch decide filled in.

        Raises UserError, with the number that would do, where they do not suit the method.
        """
        return self

    def raise_without_teacher(self) -> None:
        """Raise UserError if the method learns from a frozen teacher."""

    def resolve_with_teacher(self, features: Tensor) -> Resolved[Self]:
        """Return this configuration with what the teacher's `features` [M D] decide filled in, and why."""
        return Resolved(self, [])

    def prepare(
        self, encoder: Encoder, views: tuple[Any, ...], prepare_teacher: PrepareTeacher | None = None
    ) -> Trainable:
        """Return the method around `encoder` with its views and its sampling plan."""
        return Trainable(self.build(encoder), views, ALL_ROWS)

    @abstractmethod
    def build(self, backbone: Encoder) -> "Method":
        """The method with fresh heads around `backbone`."""


class Method(nn.Module, ABC):
    """A self-supervised objective over a backbone."""

    backbone: Encoder
    collapse_hint: ClassVar[str] = "lower the learning rate, warm up for longer or take a larger batch"
    """What to try when the embeddings collapse: the end of the sentence that reports it."""

    @abstractmethod
    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """The loss of a batch; reads state, writes none (BatchNorm statistics excepted)."""

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Called once after each optimiser step, with the loss of that step and the clock it was computed at."""

    def encoder(self) -> Encoder:
        """What is evaluated and exported."""
        return self.backbone

    def nonfinite_hint(self) -> str:
        """What a loss that is not finite means here, and what to try, as the end of a sentence."""
        return "lower the learning rate or clip"

    def target_encoder(self) -> Encoder | None:
        """The backbone that the targets come from, where that is another one than what learns."""
        return None

    def embed(self, images: Tensor) -> Tensor:
        """What the loss compares, [B C H W] -> [B D], on the side that learns: a collapse shows here first.

        To be overridden where heads stand between the features and the loss.
        """
        return self.backbone(images).final
