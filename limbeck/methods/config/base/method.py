"""Options that all methods share: views, and how they adapt to the data."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from limbeck.core.config import NamedConfig
from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.text import plural
from limbeck.data.augment.views import PRESETS, preset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from limbeck.core.types import DataContext, Encoder
    from limbeck.data.augment.span_mask import SpanMask
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.base.method import Method, Trainable


class MethodCard(NamedTuple):
    """A method in one line of `limbeck methods`, of the README and of the page of SDSSL."""

    summary: str  # what it learns to do, with the name of the paper
    state: str  # what it needs besides the network: "-", "EMA encoder", "EMA encoder, queue", ...
    use_when: str
    cost: float  # time of a training step per image, in steps of supervised training (BENCHMARKS.md: on what)


PrepareTeacher = Callable[[Any, tuple[Any, ...]], Any]
"""Prepare the teacher of a run: from a `DistillConfig` and its views to `DistillationInputs`."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig(NamedConfig):
    """Configuration of a method: its options, its views, and how it adapts to the data."""

    card: ClassVar[MethodCard]
    view_count: ClassVar[tuple[int, int]] = (2, 2)
    """Fewest and most views of an image that the method can compare."""
    needs_labels: ClassVar[bool] = False
    only_on: ClassVar[tuple[str, str] | None] = None
    """The only kind of data that the method trains on, and the reason; None: any."""
    needs_companion: ClassVar[bool] = False
    """Whether a view is of the companion of an image, such as its depth."""
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

    def make_views(self, size: int) -> "tuple[ViewSpec, ...]":
        """Return the views that the loader makes of each image, in the order of `Batch.views`.

        Raises:
            UserError: the preset has a number of views that the method cannot compare.
        """
        from limbeck.data.sampling import view_specs

        views = preset(self.views, size)
        least, most = self.view_count
        if not least <= len(views) <= most:
            fitting = ", ".join(name for name in PRESETS if least <= len(preset(name, size)) <= most)
            wanted = f"{least} to {most}" if least < most else f"{least}"
            message = f"the preset '{self.views}' has {plural(len(views), 'view')} and {self.name} needs {wanted}"
            raise UserError(f"{message}; choose one of {fitting}", code="wrong-number-of-views")
        return view_specs(views)

    @property
    def span_mask(self) -> "SpanMask | None":
        """Return the steps of a view that the method masks for the trained network; None: none."""
        return None

    def check_modality(self, name: str) -> None:
        """Raise UserError for a kind of data that the method cannot train on."""
        if self.only_on and self.only_on[0] != name:
            only, reason = self.only_on
            raise UserError(
                f"method '{self.name}' trains on {only} only, since {reason}; `limbeck methods` lists others",
                code="method-not-for-data",
            )

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with everything filled in that depends on the data and the batch.

        Raises:
            UserError: an option does not suit the data; the message names a value that does.
        """
        return self

    def train_rows(self, labels: "NDArray[np.int64]") -> "NDArray[np.int64] | None":
        """Return the rows to train on, ascending, of a store with these labels [N]; None: all."""
        return None

    def check_depths(self, depths: tuple[int, ...]) -> None:
        """Raise UserError for a layer that an encoder of these depths does not have."""

    def check_classes(self, num_classes: int) -> None:
        """Raise UserError if the method needs labels and there are not so many classes (0: not all have a label)."""

    def raise_without_teacher(self) -> None:
        """Raise UserError if the method learns from a frozen teacher."""

    def resolve_with_teacher(self, features: "Tensor") -> Resolved[Self]:
        """Return this configuration with what the teacher's `features` [M D] decide filled in, and why."""
        return Resolved(self, [])

    def prepare(
        self, encoder: "Encoder", views: tuple[Any, ...], prepare_teacher: PrepareTeacher | None = None
    ) -> "Trainable":
        """Return the method around `encoder` with its views and its sampling plan."""
        from limbeck.data.sampling import ALL_ROWS
        from limbeck.methods.base.method import Trainable

        return Trainable(self.build(encoder), views, ALL_ROWS)

    @abstractmethod
    def build(self, backbone: "Encoder") -> "Method":
        """Build the method with new heads around `backbone`."""
