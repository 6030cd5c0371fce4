"""Distillers: methods that learn from a frozen teacher, with optional terms for any of them: dense and range.

A teacher is not registered as a submodule, so no optimizer, checkpoint, broadcast or change of mode reaches it.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import SamplingPlan, ViewSpec
from limbeck.losses.ranges import channel_ranges, range_penalty
from limbeck.losses.tokens import token_relation_loss
from limbeck.methods.base.method import Method
from limbeck.methods.base.queue_host import enqueue_normalized
from limbeck.methods.config.base import (
    DistillConfig,
    QueueDistillConfig,
)
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
    """Inputs of a distiller besides the student: the teacher, the views of both, and the sampling plan."""

    teacher: Teacher
    views: tuple[ViewSpec, ...]
    sampling: SamplingPlan


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
        """Compute the loss of the method and, if configured, the terms `dense` and `range`."""
        teacher_output = self.teacher(batch)
        last = self.backbone.taps[-1:] if self.cfg.dense_weight else ()
        taps = last if self.cfg.range is None else self.backbone.taps
        features = self.backbone(batch.views[0], taps, feature_maps=bool(taps))
        loss = self.distillation_loss(self.head(features.final), batch, teacher_output, step_info)
        if self.dense_projection is not None:
            assert teacher_output.feature_map is not None
            student_map = self.dense_projection(features.feature_maps[last[0]])
            dense = token_relation_loss(student_map, teacher_output.feature_map, self.cfg.dense_temperature)
            loss = with_term(loss, "dense", dense, self.cfg.dense_weight)
        if self.cfg.range is not None:
            ranges = [channel_ranges(maps) for maps in features.feature_maps.values()]
            penalties = [range_penalty(gather(peaks), gather(squares), self.cfg.range) for peaks, squares in ranges]
            loss = with_term(loss, "range", torch.stack(penalties).mean())
        return loss

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the embeddings."""
        return self.head(self.backbone(images).final)


def with_term(loss: LossOutput, name: str, term: Float[Tensor, ""], weight: float = 1.0) -> LossOutput:
    """Return a loss with one more term, which is logged without its weight."""
    return LossOutput(loss.total + weight * term, {**loss.terms, name: term.detach()}, loss.memory)


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
