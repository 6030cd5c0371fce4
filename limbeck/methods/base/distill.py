"""What a method is that learns from a frozen teacher: its views, its teacher, and a dense term that any can take.

A teacher is no module: no optimiser, checkpoint, broadcast or change of mode reaches it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NoReturn, Self

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.types import Bags, Batch, Clock, Loss, Setting, Taught
from limbeck.data.augment.views import View
from limbeck.losses.tokens import token_relation_loss
from limbeck.methods.base.method import Method, MethodConfig
from limbeck.methods.base.queue import fit_queue, push_unit
from limbeck.methods.base.temperature import temperature_for
from limbeck.models.backbone import Backbone
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
    def __call__(self, batch: Batch) -> Taught:
        """Without gradient, on the device of the batch."""


def taught(view: View, number: int) -> View:
    """What the teacher sees of view number `number`: the same crop, flip and colours, in its own size."""
    return replace(view, teacher=True, like=number)


@dataclass(frozen=True, kw_only=True)
class DistillConfig(MethodConfig):
    """A student that learns from a frozen teacher."""

    no_host_because: ClassVar[str] = "its targets come from a frozen teacher"
    view_count: ClassVar[tuple[int, int]] = (1, 8)
    views: str = "mocov2"
    """Preset of augmentations (docs/data.md)."""
    dense: float = 0.0
    """Weight of a term for detection and segmentation: places of a map resemble each other as the teacher's do."""
    dense_temperature: float = 0.07
    """Divides the cosines between places."""

    def make_views(self, size: int) -> tuple[View, ...]:
        """The student's views, then the teacher's; its own size and normalisation come with the teacher."""
        views = self.pair(super().make_views(size))
        seen = any(view.teacher and view.like == 0 and not view.mate for view in views)
        return views if seen or not self.dense else (*views, taught(views[0], 0))

    @abstractmethod
    def pair(self, views: tuple[View, ...]) -> tuple[View, ...]:
        """From the views of a preset, what the student sees and after it what the teacher sees."""

    def bags(self) -> Bags | None:
        """Which images are to be seen together, if any."""
        return None

    @property
    def target_temperature(self) -> float | None:
        """Divides the teacher's cosines, where the targets are how much it finds images alike."""
        return None

    def suit(self, sample: Tensor) -> Self:
        """This configuration with what the teacher's vectors `sample` [M D] decide filled in."""
        return self

    def build(self, backbone: Backbone) -> Method:
        """UserError: a teacher is needed."""
        self.refuse_alone()

    def refuse_alone(self) -> NoReturn:
        """UserError: a teacher is needed."""
        raise UserError(f"{self.name} learns from a teacher: use `limbeck distill --method {self.name} --teacher ...`")

    @abstractmethod
    def distil(self, backbone: Backbone, teacher: Teacher) -> "Distiller":
        """The method with fresh heads around the student `backbone`."""


class Distiller(Method):
    """A student whose embedding, [B D] of the teacher's width, is held against what a frozen teacher says."""

    cfg: DistillConfig
    against_collapse = "lower the learning rate, or look at the teacher: its features may be alike for all images"

    def __init__(self, backbone: Backbone, cfg: DistillConfig, teacher: Teacher) -> None:
        super().__init__()
        self.cfg, self.teacher = cfg.suit(teacher.sample), teacher
        self.backbone = backbone
        self.head = self.make_head(backbone.dim, teacher.dim)
        self.places = nn.Conv2d(backbone.map_dims[backbone.taps[-1]], teacher.map_dim, 1) if cfg.dense else None

    @abstractmethod
    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """From the features of the backbone, [B dim], to the embedding, [B teacher_dim]."""

    @abstractmethod
    def learn(self, embedding: Tensor, batch: Batch, taught: Taught, clock: Clock) -> Loss:
        """The loss, given the embedding [B D] of the student's first view."""

    def forward(self, batch: Batch, clock: Clock) -> Loss:
        """What `learn` says, and `dense`, if it is asked for, as a term."""
        answers = self.teacher(batch)
        last = self.backbone.taps[-1]
        features = self.backbone(batch.views[0], (last,) if self.places else (), maps=self.places is not None)
        loss = self.learn(self.head(features.final), batch, answers, clock)
        if self.places is None:
            return loss
        assert answers.map is not None
        dense = token_relation_loss(self.places(features.maps[last]), answers.map, self.cfg.dense_temperature)
        total = loss.total + self.cfg.dense * dense
        return Loss(total, {**loss.terms, "dense": dense.detach()}, loss.memory)

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

    def fit(self, setting: Setting) -> Self:
        """With a queue that suits the store and the batch."""
        return replace(self, queue=fit_queue(self.queue, type(self).queue, setting, most=setting.images // 2))

    @property
    def target_temperature(self) -> float | None:
        """That of both."""
        return self.temperature

    def suit(self, sample: Tensor) -> Self:
        """With a temperature, where none is given, at which the teacher finds some tens of images alike."""
        return self if self.temperature is not None else replace(self, temperature=temperature_for(sample))


class QueueDistiller(Distiller):
    """A queue of unit rows, which starts with the teacher's vectors of its sample; filled by `after_step`."""

    cfg: QueueDistillConfig

    def __init__(self, backbone: Backbone, cfg: QueueDistillConfig, teacher: Teacher) -> None:
        super().__init__(backbone, cfg, teacher)
        self.queue = Queue(cfg.queue, self.streams())
        for stream in self.opening():
            self.queue.fill(stream, F.normalize(teacher.sample, dim=1))

    @property
    def temperature(self) -> float:
        """Divides the cosines."""
        assert self.cfg.temperature is not None, "`suit` chooses one"
        return self.cfg.temperature

    def streams(self) -> dict[str, int | None]:
        """The queue's streams and their widths."""
        return {"teacher": self.teacher.dim}

    def opening(self) -> tuple[str, ...]:
        """The streams that start with the teacher's sample; others start with noise."""
        return tuple(self.streams())

    def after_step(self, loss: Loss, clock: Clock) -> None:
        """Pushes what the step remembered."""
        push_unit(self.queue, loss.memory)
