"""CoNe: learn labels together with the neighbours of an image, which should be of its class and agree on it.

Zheng, You, Huang, Su, Wang, Qian, Wang, Xu, *CoNe: Contrast Your Neighbours for Supervised Image Classification*,
arXiv 2308.10761. Defaults are those of mingkai-zheng/CoNe 4f96621, `script/train.sh`, for ResNet-50 on ImageNet.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.errors import UserError
from limbeck.core.schedules import cosine
from limbeck.core.types import Batch, DataContext, Encoder, LossOutput, StepInfo
from limbeck.losses.neighbours import class_cross_entropy, neighbour_consistency, neighbour_contrast
from limbeck.methods.base import Method, MethodCard, MethodConfig
from limbeck.methods.base.queue import resolve_queue_size
from limbeck.models.ema import EMA
from limbeck.models.heads import mlp
from limbeck.models.queue import Queue


@dataclass(frozen=True, kw_only=True)
class CoNeConfig(MethodConfig):
    """Supervised: the labels of the store, and neighbours that should be of the same class."""

    name: ClassVar[str] = "cone"
    card: ClassVar[MethodCard] = MethodCard(
        summary="learn labels, and that neighbours share them",
        state="teacher and queue",
        use_when="every image has a label: an upper bound for the others",
        cost=1.2,
    )
    view_count: ClassVar[tuple[int, int]] = (1, 1)
    not_a_host_reason: ClassVar[str] = "its targets are labels, and not what it says of another view"

    views: str = "supervised"
    """Preset of augmentations (docs/data.md), of one view."""
    classes: int | None = None
    """Classes of the labels; filled in from the store."""
    dim: int = 256
    """Width of the embedding."""
    hidden: int = 4096
    """Width of the projector's hidden layer."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    queue: int = 65536
    """Rows that the queue holds, the newest of all processes; by default no more than half of a smaller store."""
    neighbours: int = 512
    """Most similar rows of the queue that an image is compared with."""
    temperature: float = 0.1
    """Divides the cosines with the neighbours."""
    vote_temperature: float = 0.07
    """Divides the cosines by which the queue votes for classes."""
    contrast: float = 0.7
    """Weight of the neighbours' loss."""
    consistency: float = 0.4
    """Weight of the votes' loss."""
    smoothing: float = 0.0
    """Share of a label that goes to the other classes."""
    warmup_steps: int | None = None
    """Optimiser steps of labels alone, while the queue fills; by default an epoch, and no more than a
    tenth of the run."""
    momentum: float = 0.996
    """Momentum of the teacher at the start; it rises to 1 over the run along a half-cosine."""

    def resolve(self, context: DataContext) -> Self:
        """With classes and warm-up filled in; UserError where labels are missing or the queue does not suit."""
        if context.num_classes < 2:
            found = "there is one class only" if context.num_classes else "not every image of the store has one"
            raise UserError(
                f"{self.name} needs a label for every image, of two classes or more, and {found}: "
                "give each class a folder of its own, or choose a method without labels"
            )
        if self.classes not in (None, context.num_classes):
            raise UserError(f"classes is {self.classes} and the store has {context.num_classes}: leave the option out")
        if not 0 <= self.smoothing <= 1 - 1 / context.num_classes:
            raise UserError(f"smoothing is {self.smoothing}: take 0 to {1 - 1 / context.num_classes:.3g}")
        queue = resolve_queue_size(self.queue, type(self).queue, context)
        if not 1 <= self.neighbours <= queue:
            raise UserError(f"neighbours is {self.neighbours}: take 1 to {queue:,}, the rows of the queue")
        return replace(
            self,
            classes=context.num_classes,
            queue=queue,
            warmup_steps=context.max_initial_steps if self.warmup_steps is None else self.warmup_steps,
        )

    def build(self, backbone: Encoder) -> "CoNe":
        """CoNe with fresh heads around `backbone`, whose teacher starts as a copy; needs a fitted configuration."""
        return CoNe(backbone, self)


class Classifier(nn.Module):
    """A backbone, a projector, and a linear classifier of the embedding."""

    def __init__(self, backbone: Encoder, projector: nn.Module, output: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.projector, self.output = backbone, projector, output

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """[B C H W] -> embedding [B D] and logits [B classes]."""
        embedding = self.projector(self.backbone(view).final)
        return embedding, self.output(embedding)


class CoNe(Method):
    """Cross-entropy + contrast * (weight of neighbours of the class) + consistency * (KL from the queue's votes).

    The teacher, an EMA of everything, sees the same view; its embeddings, class probabilities and the labels make the
    queue. The student's backbone is what is evaluated; the classifier is thrown away with the heads.
    """

    def __init__(self, backbone: Encoder, cfg: CoNeConfig) -> None:
        super().__init__()
        assert cfg.classes is not None
        self.cfg = cfg
        self.backbone = backbone
        widths = [backbone.dim, *[cfg.hidden] * (cfg.projector_layers - 1), cfg.dim]
        self.projector = mlp(widths, bias=True)
        self.output = nn.Linear(cfg.dim, cfg.classes)
        self.teacher = EMA(self.student())
        self.queue = Queue(cfg.queue, {"keys": cfg.dim, "labels": None, "votes": cfg.classes})

    def student(self) -> Classifier:
        """All that learns."""
        return Classifier(self.backbone, self.projector, self.output)

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Terms: `labels`; after the warm-up also `contrast` and `consistency`, before their weights."""
        (view,), labels, cfg = batch.views, batch.labels, self.cfg
        assert labels is not None
        assert cfg.warmup_steps is not None
        embedding, logits = self.student()(view)
        with torch.no_grad():
            key, key_logits = self.teacher.module(view)
        terms = {"labels": class_cross_entropy(logits, labels, cfg.smoothing)}
        total = terms["labels"]
        if step_info.step >= cfg.warmup_steps:
            bank, bank_labels, votes = self.queue["keys"], self.queue["labels"], self.queue["votes"]
            contrast = neighbour_contrast(embedding, labels, bank, bank_labels, cfg.neighbours, cfg.temperature)
            consistency = neighbour_consistency(logits, key, bank, bank_labels, votes, cfg.vote_temperature)
            terms |= {"contrast": contrast, "consistency": consistency}
            total = total + cfg.contrast * contrast + cfg.consistency * consistency
        memory = {"keys": F.normalize(key, dim=1), "labels": labels, "votes": key_logits.softmax(1)}
        return LossOutput(total, {k: v.detach() for k, v in terms.items()}, {k: gather(v) for k, v in memory.items()})

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Moves the teacher, with the momentum of the step to come, for which the authors move it; pushes the keys."""
        self.teacher.update(
            self.student(), cosine(self.cfg.momentum, 1.0, (step_info.step + 1) / step_info.total_steps)
        )
        self.queue.push(loss.memory)

    def embed(self, images: Tensor) -> Tensor:
        """The embeddings, [B C H W] -> [B D]."""
        return self.student()(images)[0]

    def target_encoder(self) -> Encoder:
        """The teacher's backbone."""
        return self.teacher.module.backbone
