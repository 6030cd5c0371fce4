"""SEED: match the teacher's similarities to its own vector of the image and to a queue.

Fang, Wang, Wang, Zhang, Yang and Liu, *SEED: Self-supervised Distillation for Visual Representation*, ICLR 2021.
Defaults are those of jacobswan1/SEED.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from jaxtyping import Float
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
    """SEED: between regression and relations; the colder the teacher, the more the image's own vector counts."""

    name: ClassVar[str] = "seed"
    card: ClassVar[MethodCard] = MethodCard(
        summary="match the teacher's similarities to its vector of the image and to a queue",
        state="teacher, queue",
        use_when="teachers trained without labels; with local crops, where there is time",
        cost=1.3,
    )
    temperature: float | None = None
    """Divides the student's cosines; None: chosen for the teacher (the authors: 0.2)."""
    teacher_temperature: float | None = None
    """Divides the teacher's cosines; None: chosen for the teacher (the authors: 0.01)."""
    num_local_crops: int = 0
    """Local crops besides the view (the authors: 6), for student and teacher, compared with a queue of their own."""

    def student_teacher_views(self, views: tuple[ViewSpec, ...]) -> tuple[ViewSpec, ...]:
        """Return one view and the local crops, for student and teacher."""
        crop = replace(views[0], augmentation=local_crop(views[0].augmentation))
        student = views[0], *(crop,) * self.num_local_crops
        return *student, *(teacher_view(view, index) for index, view in enumerate(student))

    @property
    def target_temperature(self) -> float | None:
        """The temperature of the teacher."""
        return self.teacher_temperature

    def with_teacher_defaults(self, sample: Float[Tensor, "M D"]) -> Self:
        """Return this configuration with temperatures, the same for both where none is given."""
        filled = super().with_teacher_defaults(sample)
        if self.teacher_temperature is not None:
            return filled
        return replace(filled, teacher_temperature=temperature_for(sample) if self.temperature else filled.temperature)

    def build_distiller(self, backbone: Encoder, teacher: Teacher) -> "SEED":
        """Build SEED with a new head around `backbone`."""
        return SEED(backbone, self, teacher)


class SEED(QueueDistiller):
    """Cross-entropy between two distributions over [the teacher's vector of the same view | the queue]."""

    cfg: SEEDConfig

    def make_head(self, dim: int, teacher_dim: int) -> nn.Module:
        """Build two linear layers of the student's width."""
        return mlp([dim, dim, teacher_dim], norm=False, bias=True)

    def queue_widths(self) -> dict[str, int | None]:
        """Return the teacher's queue and, with local crops, one more for them."""
        return super().queue_widths() | ({"local": self.teacher.dim} if self.cfg.num_local_crops else {})

    def distillation_loss(
        self, embedding: Float[Tensor, "B D"], batch: Batch, teacher_output: TeacherOutput, step_info: StepInfo
    ) -> LossOutput:
        """Compute, with local crops, the terms `whole` and `local`; of the crops, the first one is enqueued."""
        whole, *crops = teacher_output.vectors[: 1 + self.cfg.num_local_crops]
        loss, memory = self.compare(embedding, whole, "teacher"), {"teacher": gather(whole)}
        if not crops:
            return LossOutput(loss, {}, memory)
        student = self.embed(torch.cat(batch.views[1 : 1 + len(crops)]))
        local = self.compare(student, torch.cat(crops), "local")
        terms = {"whole": loss.detach(), "local": local.detach()}
        return LossOutput(loss + local, terms, memory | {"local": gather(crops[0])})

    def compare(
        self, student: Float[Tensor, "B D"], teacher: Float[Tensor, "B D"], queue_name: str
    ) -> Float[Tensor, ""]:
        """Compare embeddings of the student with the teacher's vectors of the same views."""
        assert self.cfg.teacher_temperature is not None, "`with_teacher_defaults` chooses one"
        bank = self.queue[queue_name]
        target = relation(teacher, bank, self.cfg.teacher_temperature, positive=teacher)
        return relation_loss(student, bank, self.temperature, target, positive=teacher)
