"""Options of distillers: views of student and teacher, the dense term, queues."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.text import plural
from limbeck.methods.config.base.host import resolve_queue_size
from limbeck.methods.config.base.method import MethodConfig, PrepareTeacher

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.core.types import BagSpec, DataContext, Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.base.distill import DistillationInputs, Distiller, Teacher
    from limbeck.methods.base.method import Method, Trainable


def teacher_view(view: "ViewSpec", index: int) -> "ViewSpec":
    """Return the teacher's version of view number `index`: same crop, flip and colors, at the teacher's resolution."""
    return replace(view, network="teacher", crop_of=index)


@dataclass(frozen=True, kw_only=True)
class DistillConfig(MethodConfig):
    """Configuration of a student that learns from a frozen teacher."""

    not_a_host_reason: ClassVar[str] = "its targets come from a frozen teacher"
    view_count: ClassVar[tuple[int, int]] = (1, 8)
    views: str = "mocov2"
    """Preset of augmentations (docs/data.md)."""
    dense_weight: float = 0.0
    """Weight of a term for detection and segmentation: match the teacher's similarities between positions."""
    dense_temperature: float = 0.07
    """Divides the cosines between positions."""
    range: float | None = None
    """For int8: the peak-to-RMS of a channel, at any depth, above which it is penalized; None: no penalty."""

    def __post_init__(self) -> None:
        """Raise UserError for a range that no channel can have."""
        if self.range is not None and not 1 <= self.range < float("inf"):
            message = f"range is {self.range:g}: no peak is below the RMS, so take 1 or more, such as 6"
            raise UserError(message, code="out-of-range")

    def make_views(self, size: int) -> "tuple[ViewSpec, ...]":
        """Return the student's views, then the teacher's, whose size and normalization the teacher sets."""
        views = self.student_teacher_views(super().make_views(size))
        mapped = any(view.network == "teacher" and view.image == "own" and view.crop_of == 0 for view in views)
        return views if mapped or not self.dense_weight else (*views, teacher_view(views[0], 0))

    @abstractmethod
    def student_teacher_views(self, views: "tuple[ViewSpec, ...]") -> "tuple[ViewSpec, ...]":
        """Return the student's views and after them the teacher's, made from those of a preset."""

    def bag_spec(self) -> "BagSpec | None":
        """Return which images form the bag of an image; None if the method needs no bags."""
        return None

    @property
    def target_temperature(self) -> float | None:
        """Divides the teacher's cosines; None if the targets are no similarities."""
        return None

    def with_teacher_defaults(self, sample: "Tensor") -> Self:
        """Return this configuration with everything filled in that depends on the teacher's vectors."""
        return self

    def resolve_with_teacher(self, features: "Tensor") -> Resolved[Self]:
        """Return `with_teacher_defaults`, and over how many images the teacher's targets spread if they are soft."""
        resolved = self.with_teacher_defaults(features)
        temperature = resolved.target_temperature
        if temperature is None:
            return Resolved(resolved, [])
        from limbeck.methods.base.temperature import effective_neighbors

        spread, others = effective_neighbors(features, temperature), len(features) - 1
        reason = f"at temperature {temperature:g} the teacher's targets spread over {spread:.0f} of "
        reason += plural(others, "other image")
        return Resolved(resolved, [reason])

    def prepare(
        self, encoder: "Encoder", views: tuple[Any, ...], prepare_teacher: PrepareTeacher | None = None
    ) -> "Trainable":
        """Return the distiller around the student `encoder`, with the teacher's views and its sampling plan."""
        from limbeck.methods.base.method import Trainable

        if prepare_teacher is None:
            self.raise_without_teacher()
        inputs: DistillationInputs = prepare_teacher(self, views)
        return Trainable(self.build_distiller(encoder, inputs.teacher), inputs.views, inputs.sampling)

    def build(self, backbone: "Encoder") -> "Method":
        """Raise a UserError: a teacher is needed."""
        self.raise_without_teacher()

    def raise_without_teacher(self) -> NoReturn:
        """Raise a UserError: a teacher is needed."""
        remedy = f"use `limbeck distill --method {self.name} --teacher ...`"
        raise UserError(f"{self.name} learns from a teacher: {remedy}", code="teacher-needed")

    @abstractmethod
    def build_distiller(self, backbone: "Encoder", teacher: "Teacher") -> "Distiller":
        """Build the method with new heads around the student `backbone`."""


@dataclass(frozen=True, kw_only=True)
class QueueDistillConfig(DistillConfig):
    """Configuration of a distiller that compares with the teacher's vectors of recent images."""

    queue_size: int = 65536
    """Rows of the queue, the newest of all processes; by default at most half of the store."""
    temperature: float | None = None
    """Divides the cosines; None: chosen for the teacher."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with a queue that suits the store and the batch."""
        half = context.num_images // 2
        return replace(self, queue_size=resolve_queue_size(self.queue_size, type(self).queue_size, context, most=half))

    @property
    def target_temperature(self) -> float | None:
        """The temperature of student and teacher."""
        return self.temperature

    def with_teacher_defaults(self, sample: "Tensor") -> Self:
        """Return this configuration with a temperature at which an image has a few dozen effective neighbors."""
        from limbeck.methods.base.temperature import temperature_for

        return self if self.temperature is not None else replace(self, temperature=temperature_for(sample))
