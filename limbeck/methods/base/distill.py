"""Distillers: methods that learn from a frozen teacher, with an optional dense term for any of them.

A teacher is not registered as a submodule, so no optimizer, checkpoint, broadcast or change of mode reaches it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.types import BagSpec, Batch, DataContext, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import SamplingPlan, ViewSpec
from limbeck.losses.tokens import token_relation_loss
from limbeck.methods.base.method import Method, MethodConfig, PrepareTeacher, Trainable
from limbeck.methods.base.queue import enqueue_normalized, resolve_queue_size
from limbeck.methods.base.temperature import effective_neighbors, temperature_for
from limbeck.models.queue import Queue


class Teacher(ABC):
    """Output of a frozen network for the teacher's views of a batch, computed live or read from a cache."""

    dim: int
    """Width of its vectors."""
    map_dim: int
    """Channels of its feature map."""
    sample: Float[Tensor, "M D"]
    """Its vectors for some images of the store: temperatures are chosen from them, and queues start with them."""

    @abstractmethod
    def __call__(self, batch: Batch) -> TeacherOutput:
        """Return the output for a batch, without gradient, on the device of the batch."""


class DistillationInputs(NamedTuple):
    """What a distiller needs besides the student: the teacher, the views of both, and the sampling plan."""

    teacher: Teacher
    views: tuple[ViewSpec, ...]
    sampling: SamplingPlan


def teacher_view(view: ViewSpec, index: int) -> ViewSpec:
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

    def make_views(self, size: int) -> tuple[ViewSpec, ...]:
        """Return the student's views, then the teacher's, whose size and normalization the teacher sets."""
        views = self.student_teacher_views(super().make_views(size))
        mapped = any(view.network == "teacher" and view.image == "own" and view.crop_of == 0 for view in views)
        return views if mapped or not self.dense_weight else (*views, teacher_view(views[0], 0))

    @abstractmethod
    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """Return the student's views and after them the teacher's, made from those of a preset."""

    def bag_spec(self) -> BagSpec | None:
        """Return which images form the bag of an image; None if the method needs no bags."""
        return None

    @property
    def target_temperature(self) -> float | None:
        """Divides the teacher's cosines; None if the targets are no similarities."""
        return None

    def with_teacher_defaults(self, sample: Float[Tensor, "M D"]) -> Self:
        """Return this configuration with everything filled in that depends on the teacher's vectors."""
        return self

    def resolve_with_teacher(self, features: Float[Tensor, "M D"]) -> Resolved[Self]:
        """Return `with_teacher_defaults`, and over how many images the teacher's targets spread if they are soft."""
        resolved = self.with_teacher_defaults(features)
        temperature = resolved.target_temperature
        if temperature is None:
            return Resolved(resolved, [])
        spread, others = effective_neighbors(features, temperature), len(features) - 1
        reason = (
            f"at temperature {temperature:g} the teacher's targets spread over {spread:.0f} of {others:,} other images"
        )
        return Resolved(resolved, [reason])

    def prepare(
        self, encoder: Encoder, views: tuple[Any, ...], prepare_teacher: PrepareTeacher | None = None
    ) -> Trainable:
        """Return the distiller around the student `encoder`, with the teacher's views and its sampling plan."""
        if prepare_teacher is None:
            self.raise_without_teacher()
        inputs: DistillationInputs = prepare_teacher(self, views)
        return Trainable(self.build_distiller(encoder, inputs.teacher), inputs.views, inputs.sampling)

    def build(self, backbone: Encoder) -> Method:
        """Raise a UserError: a teacher is needed."""
        self.raise_without_teacher()

    def raise_without_teacher(self) -> NoReturn:
        """Raise a UserError: a teacher is needed."""
        remedy = f"use `limbeck distill --method {self.name} --teacher ...`"
        raise UserError(f"{self.name} learns from a teacher: {remedy}", code="teacher-needed")

    @abstractmethod
    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "Distiller":
        """Build the method with new heads around the student `backbone`."""


class Distiller(Method):
    """A student whose embedding [B D], of the teacher's width, is compared with the teacher's vectors."""

    cfg: DistillConfig
    collapse_hint = "lower the learning rate, or check the teacher: its features may be nearly equal for all images"

    def __init__(self, backbone: Encoder, cfg: DistillConfig, teacher: Teacher) -> None:
        super().__init__()
        self.cfg, self.teacher = cfg.with_teacher_defaults(teacher.sample), teacher
        self.backbone = backbone
        self.head = self.make_head(backbone.dim, teacher.dim)
        channels = backbone.map_dims[backbone.taps[-1]]
        self.dense_projection = nn.Conv2d(channels, teacher.map_dim, 1) if cfg.dense_weight else None

    @abstractmethod
    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Build the head from the features of the backbone, [B dim], to the embedding, [B teacher_dim]."""

    @abstractmethod
    def distillation_loss(
        self, embedding: Float[Tensor, "B D"], batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Compute the loss, given the embedding of the student's first view."""

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the loss of the method and, if configured, the term `dense`."""
        teacher_output = self.teacher(batch)
        if self.dense_projection is None:
            embedding = self.head(self.backbone(batch.views[0]).final)
            return self.distillation_loss(embedding, batch, teacher_output, step_info)
        last = self.backbone.taps[-1]
        features = self.backbone(batch.views[0], (last,), feature_maps=True)
        loss = self.distillation_loss(self.head(features.final), batch, teacher_output, step_info)
        assert teacher_output.feature_map is not None
        student_map = self.dense_projection(features.feature_maps[last])
        dense = token_relation_loss(student_map, teacher_output.feature_map, self.cfg.dense_temperature)
        total = loss.total + self.cfg.dense_weight * dense
        return LossOutput(total, {**loss.terms, "dense": dense.detach()}, loss.memory)

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the embeddings."""
        return self.head(self.backbone(images).final)


@dataclass(frozen=True, kw_only=True)
class QueueDistillConfig(DistillConfig):
    """Configuration of a distiller that compares with the teacher's vectors of recent images."""

    queue_size: int = 65536
    """Rows of the queue, the newest of all processes; by default at most half of the store."""
    temperature: float | None = None
    """Divides the cosines; None: chosen for the teacher."""

    def resolve(self, context: DataContext) -> Self:
        """Return this configuration with a queue that suits the store and the batch."""
        half = context.num_images // 2
        return replace(self, queue_size=resolve_queue_size(self.queue_size, type(self).queue_size, context, most=half))

    @property
    def target_temperature(self) -> float | None:
        """The temperature of student and teacher."""
        return self.temperature

    def with_teacher_defaults(self, sample: Float[Tensor, "M D"]) -> Self:
        """Return this configuration with a temperature at which an image has a few dozen effective neighbors."""
        return self if self.temperature is not None else replace(self, temperature=temperature_for(sample))


class QueueDistiller(Distiller):
    """A distiller with queues of unit rows, which start with the teacher's vectors; `after_step` enqueues."""

    cfg: QueueDistillConfig

    def __init__(self, backbone: Encoder, cfg: QueueDistillConfig, teacher: Teacher) -> None:
        super().__init__(backbone, cfg, teacher)
        self.queue = Queue(cfg.queue_size, self.queue_widths())
        for name in self.prefilled_queues():
            self.queue.fill(name, F.normalize(teacher.sample, dim=1))

    @property
    def temperature(self) -> float:
        """Divides the cosines."""
        assert self.cfg.temperature is not None, "`with_teacher_defaults` chooses one"
        return self.cfg.temperature

    def queue_widths(self) -> dict[str, int | None]:
        """Return the queues and their widths."""
        return {"teacher": self.teacher.dim}

    def prefilled_queues(self) -> tuple[str, ...]:
        """Return the queues that start with the teacher's vectors; others start with noise."""
        return tuple(self.queue_widths())

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Enqueue the rows of the step."""
        enqueue_normalized(self.queue, loss.memory)
