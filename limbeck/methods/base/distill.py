"""What a method is that learns from a frozen teacher: its views, its teacher, and a dense term that any can take.

A teacher is no module: no optimiser, checkpoint, broadcast or change of mode reaches it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

import torch.nn.functional as F
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
    """Answers of a frozen network to the views of a batch that are marked as a teacher's, live or from memory."""

    dim: int
    """Width of its vectors."""
    map_dim: int
    """Channels of its map."""
    sample: Tensor
    """Its vectors of some images of the store, [M D]: what temperatures are chosen and queues started from."""

    @abstractmethod
    def __call__(self, batch: Batch) -> TeacherOutput:
        """Without gradient, on the device of the batch."""


class DistillationInputs(NamedTuple):
    """What a distiller needs besides the student: the teacher, the views of both, and the sampling plan."""

    teacher: Teacher
    views: tuple[ViewSpec, ...]
    sampling: SamplingPlan


def teacher_view(view: ViewSpec, index: int) -> ViewSpec:
    """Return the teacher's version of view `index`: the same augmentation parameters, at the teacher's resolution."""
    return replace(view, network="teacher", crop_of=index)


@dataclass(frozen=True, kw_only=True)
class DistillConfig(MethodConfig):
    """A student that learns from a frozen teacher."""

    not_a_host_reason: ClassVar[str] = "its targets come from a frozen teacher"
    view_count: ClassVar[tuple[int, int]] = (1, 8)
    views: str = "mocov2"
    """Preset of augmentations (docs/data.md)."""
    dense: float = 0.0
    """Weight of a term for detection and segmentation: places of a map resemble each other as the teacher's do."""
    dense_temperature: float = 0.07
    """Divides the cosines between places."""

    def make_views(self, size: int) -> tuple[ViewSpec, ...]:
        """The student's views, then the teacher's; its own size and normalisation come with the teacher."""
        views = self.student_teacher_views(super().make_views(size))
        mapped = any(view.network == "teacher" and view.image == "own" and view.crop_of == 0 for view in views)
        return views if mapped or not self.dense else (*views, teacher_view(views[0], 0))

    @abstractmethod
    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """From the views of a preset, what the student sees and after it what the teacher sees."""

    def bags(self) -> BagSpec | None:
        """Which images are to be seen together, if any."""
        return None

    @property
    def target_temperature(self) -> float | None:
        """Divides the teacher's cosines, where the targets are how much it finds images alike."""
        return None

    def with_teacher_defaults(self, sample: Tensor) -> Self:
        """This configuration with what the teacher's vectors `sample` [M D] decide filled in."""
        return self

    def resolve_with_teacher(self, features: Tensor) -> Resolved[Self]:
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
        """UserError: a teacher is needed."""
        self.raise_without_teacher()

    def raise_without_teacher(self) -> NoReturn:
        """UserError: a teacher is needed."""
        raise UserError(
            f"{self.name} learns from a teacher: use `limbeck distill --method {self.name} --teacher ...`",
            code="teacher-needed",
        )

    @abstractmethod
    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "Distiller":
        """The method with fresh heads around the student `backbone`."""


class Distiller(Method):
    """A student whose embedding, [B D] of the teacher's width, is held against what a frozen teacher says."""

    cfg: DistillConfig
    collapse_hint = "lower the learning rate, or look at the teacher: its features may be alike for all images"

    def __init__(self, backbone: Encoder, cfg: DistillConfig, teacher: Teacher) -> None:
        super().__init__()
        self.cfg, self.teacher = cfg.with_teacher_defaults(teacher.sample), teacher
        self.backbone = backbone
        self.head = self.make_head(backbone.dim, teacher.dim)
        self.dense_projection = (
            nn.Conv2d(backbone.map_dims[backbone.taps[-1]], teacher.map_dim, 1) if cfg.dense else None
        )

    @abstractmethod
    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """From the features of the backbone, [B dim], to the embedding, [B teacher_dim]."""

    @abstractmethod
    def distillation_loss(
        self, embedding: Tensor, batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """The loss, given the embedding [B D] of the student's first view."""

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """What `learn` says, and `dense`, if it is asked for, as a term."""
        answers = self.teacher(batch)
        last = self.backbone.taps[-1]
        features = self.backbone(
            batch.views[0], (last,) if self.dense_projection else (), feature_maps=self.dense_projection is not None
        )
        loss = self.distillation_loss(self.head(features.final), batch, answers, step_info)
        if self.dense_projection is None:
            return loss
        assert answers.feature_map is not None
        dense = token_relation_loss(
            self.dense_projection(features.feature_maps[last]), answers.feature_map, self.cfg.dense_temperature
        )
        total = loss.total + self.cfg.dense * dense
        return LossOutput(total, {**loss.terms, "dense": dense.detach()}, loss.memory)

    def embed(self, images: Tensor) -> Tensor:
        """[B C H W] -> [B D]."""
        embedding: Tensor = self.head(self.backbone(images).final)
        return embedding


@dataclass(frozen=True, kw_only=True)
class QueueDistillConfig(DistillConfig):
    """A distiller that compares with the teacher's vectors of recent images."""

    queue: int = 65536
    """Rows that the queue holds, the newest of all processes; by default at most half of the store."""
    temperature: float | None = None
    """Divides the cosines; None: as suits the teacher."""

    def resolve(self, context: DataContext) -> Self:
        """With a queue that suits the store and the batch."""
        return replace(
            self, queue=resolve_queue_size(self.queue, type(self).queue, context, most=context.num_images // 2)
        )

    @property
    def target_temperature(self) -> float | None:
        """That of both."""
        return self.temperature

    def with_teacher_defaults(self, sample: Tensor) -> Self:
        """With a temperature, where none is given, at which the teacher finds some tens of images alike."""
        return self if self.temperature is not None else replace(self, temperature=temperature_for(sample))


class QueueDistiller(Distiller):
    """A queue of unit rows, which starts with the teacher's vectors of its sample; filled by `after_step`."""

    cfg: QueueDistillConfig

    def __init__(self, backbone: Encoder, cfg: QueueDistillConfig, teacher: Teacher) -> None:
        super().__init__(backbone, cfg, teacher)
        self.queue = Queue(cfg.queue, self.queue_names())
        for stream in self.initial_queue():
            self.queue.fill(stream, F.normalize(teacher.sample, dim=1))

    @property
    def temperature(self) -> float:
        """Divides the cosines."""
        assert self.cfg.temperature is not None, "`with_teacher_defaults` chooses one"
        return self.cfg.temperature

    def queue_names(self) -> dict[str, int | None]:
        """The queue's streams and their widths."""
        return {"teacher": self.teacher.dim}

    def initial_queue(self) -> tuple[str, ...]:
        """The streams that start with the teacher's sample; others start with noise."""
        return tuple(self.queue_names())

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Pushes what the step remembered."""
        enqueue_normalized(self.queue, loss.memory)
