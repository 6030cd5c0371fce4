"""SEED: the student must resemble the teacher's vector of the same view, and others of a queue, as the teacher does.

Fang, Wang, Wang, Zhang, Yang and Liu, *SEED: Self-supervised Distillation for Visual Representation*, ICLR 2021.
Defaults are those of jacobswan1/SEED.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo, TeacherOutput
from limbeck.data.augment.views import local_crop
from limbeck.data.sampling import ViewSpec
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import MethodCard, QueueDistillConfig, QueueDistiller, Teacher, teacher_view
from limbeck.methods.base.temperature import temperature_for
from limbeck.models.heads import mlp


@dataclass(frozen=True, kw_only=True)
class SEEDConfig(QueueDistillConfig):
    """Between regression and relations: the colder the teacher, the more the image's own vector alone counts."""

    name: ClassVar[str] = "seed"
    card: ClassVar[MethodCard] = MethodCard(
        summary="resemble the teacher's vector of the image, and others, as the teacher does",
        state="a frozen teacher and a queue",
        use_when="teachers trained without labels; with small crops, where there is time",
        cost=1.3,
    )
    temperature: float | None = None
    """Divides the student's cosines; None: as suits the teacher (the authors: 0.2)."""
    teacher_temperature: float | None = None
    """Divides the teacher's cosines; None: as suits it (the authors: 0.01)."""
    small: int = 0
    """Small crops beside the view (the authors: 6), seen by both and compared with a queue of their own."""

    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """One view and the small ones, for both."""
        crop = replace(views[0], augmentation=local_crop(views[0].augmentation))
        student = views[0], *(crop,) * self.small
        return *student, *(teacher_view(view, number) for number, view in enumerate(student))

    @property
    def target_temperature(self) -> float | None:
        """The teacher's own."""
        return self.teacher_temperature

    def with_teacher_defaults(self, sample: Tensor) -> Self:
        """With temperatures where none are given: the same for both."""
        suited = super().with_teacher_defaults(sample)
        if self.teacher_temperature is not None:
            return suited
        return replace(suited, teacher_temperature=temperature_for(sample) if self.temperature else suited.temperature)

    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "SEED":
        """SEED with a fresh head around `backbone`."""
        return SEED(backbone, self, teacher)


class SEED(QueueDistiller):
    """Cross-entropy between two distributions over [the teacher's vector of the same view | the queue]."""

    cfg: SEEDConfig

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Two linear layers, as wide as the student."""
        return mlp([dim, dim, teacher_dim], norm=False, bias=True)

    def queue_names(self) -> dict[str, int | None]:
        """With small crops, one more queue for them."""
        return super().queue_names() | ({"small": self.teacher.dim} if self.cfg.small else {})

    def distillation_loss(
        self, embedding: Tensor, batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Terms: with small crops, `whole` and `small`. Of these, the first alone is remembered."""
        own, *crops = teacher_output.vectors[: 1 + self.cfg.small]
        loss, memory = self.compare(embedding, own, "teacher"), {"teacher": gather(own)}
        if not crops:
            return LossOutput(loss, {}, memory)
        seen = self.embed(torch.cat(batch.views[1 : 1 + len(crops)]))
        small = self.compare(seen, torch.cat(crops), "small")
        terms = {"whole": loss.detach(), "small": small.detach()}
        return LossOutput(loss + small, terms, memory | {"small": gather(crops[0])})

    def compare(self, student: Tensor, teacher: Tensor, stream: str) -> Tensor:
        """Embeddings [B D] of the student against the teacher's vectors of the same views, [B D]; a scalar."""
        assert self.cfg.teacher_temperature is not None, "`with_teacher_defaults` chooses one"
        bank = self.queue[stream]
        target = relation(teacher, bank, self.cfg.teacher_temperature, own=teacher)
        return relation_loss(student, bank, self.temperature, target, own=teacher)
