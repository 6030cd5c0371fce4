"""Distillers: methods that learn from a frozen teacher, with an optional dense term for any of them.

A teacher is not registered as a submodule, so no optimizer, checkpoint, broadcast or change of mode reaches it.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.sampling import SamplingPlan, ViewSpec
from limbeck.losses.tokens import token_relation_loss
from limbeck.methods.base.method import Method
from limbeck.methods.base.queue import enqueue_normalized
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
    """What a distiller needs besides the student: the teacher, the views of both, and the sampling plan."""

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
