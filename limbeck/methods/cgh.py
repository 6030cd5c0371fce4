"""CGH: the last vector of a network and the hypercolumn of its last stages teach each other whom an image resembles.

Gao, Feng, Patras, *Self-Supervised Representation Learning with Cross-Context Learning between Global and Hypercolumn
Features*, WACV 2024 (arXiv 2308.13392). Defaults are those of the authors' only configuration, ResNet-50 on ImageNet in
zaczgao/Cross-Context_Learning 340bca9.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, Encoder, LossOutput, StepInfo
from limbeck.losses.contrastive import info_nce
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import Method, MethodCard, MethodConfig
from limbeck.methods.base.queue import enqueue_normalized, resolve_queue_size
from limbeck.models.ema import EMA
from limbeck.models.heads import HypercolumnPool, mlp
from limbeck.models.queue import Queue


@dataclass(frozen=True, kw_only=True)
class CGHConfig(MethodConfig):
    """Last vector and hypercolumn teach each other, so that local detail enters the features; wants a CNN."""

    name: ClassVar[str] = "cgh"
    card: ClassVar[MethodCard] = MethodCard(
        summary="last vector and hypercolumn resemble other images as the slow copy of the other says",
        state="teacher and two queues",
        use_when="CNNs whose features are to keep local detail, with small batches",
        cost=2.3,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 6)
    not_a_host_reason: ClassVar[str] = "its last vector learns from its own hypercolumn"
    views: str = "ressl"
    """Preset of augmentations (docs/data.md); the teacher sees the last view, the student the first one, and of any
    between them the last vector alone."""
    dim: int = 512
    """Width of both embeddings."""
    hidden: int = 4096
    """Width of the hidden layers of both projectors."""
    queue: int = 131072
    """Rows that each queue holds, the newest of all processes; by default no more than half of a smaller store."""
    contexts: tuple[int, ...] = (-2, -1)
    """Blocks or stages of the hypercolumn, from 1, or from -1 backwards."""
    momentum: float = 0.999
    """Momentum of the teacher."""
    warmup: float = 0.025
    """Share of the run in which InfoNCE gives way to the relations (5 of 200 epochs)."""
    temperature: float = 0.1
    """Divides the cosines of the student's last vector."""
    teacher_temperature: float = 0.04
    """Divides the cosines of the teacher's last vector."""
    hyper_temperature: float = 0.08
    """Divides the cosines of the student's hypercolumn."""
    hyper_teacher_temperature: float = 0.08
    """Divides the cosines of the teacher's hypercolumn."""
    contrast_temperature: float = 0.2
    """Divides the cosines in InfoNCE."""

    def resolve(self, context: DataContext) -> Self:
        """With queues that suit the store and the batch."""
        return replace(self, queue=resolve_queue_size(self.queue, type(self).queue, context))

    def build(self, backbone: Encoder) -> "CGH":
        """CGH with fresh heads around `backbone`; UserError for contexts that it does not have."""
        return CGH(backbone, self)

    def taps(self, backbone: Encoder) -> tuple[int, ...]:
        """The contexts counted from 1, ascending."""
        depth = backbone.taps[-1]
        taps = {context if context > 0 else depth + 1 + context for context in self.contexts}
        if not taps or not taps <= set(backbone.taps):
            raise UserError(
                f"contexts {self.contexts} are not all in '{backbone.cfg.name}': choose depths from 1 to {depth}, "
                f"or from -{depth} to -1"
            )
        return tuple(sorted(taps))


class TwoContexts(nn.Module):
    """A backbone that describes an image by its last vector and by a hypercolumn, each through a projector."""

    def __init__(self, backbone: Encoder, cfg: CGHConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.taps = cfg.taps(backbone)
        self.pool = HypercolumnPool([backbone.map_dims[tap] for tap in self.taps], backbone.dim)
        self.last, self.hyper = (mlp([backbone.dim, cfg.hidden, cfg.dim], norm=False, bias=True) for _ in range(2))

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """[B C H W] -> last and hyper, [B D] each."""
        features = self.backbone(view, self.taps, feature_maps=True)
        column = self.pool([features.feature_maps[tap] for tap in self.taps])
        return self.last(features.final), self.hyper(column)

    def glance(self, view: Tensor) -> Tensor:
        """[B C H W] -> last alone, [B D]."""
        return self.last(self.backbone(view).final)


class CGH(Method):
    """Each context of the student against the other one of the teacher, over queues whose rows show the same images.

    The teacher is a moving average of the whole student, in training mode; the student's backbone is evaluated. With R
    the relation loss (`losses.relation`) and a rising from 0 to 1 during the warm-up:

        total = a/2 R(hyper; teacher's last) + a/2 R(last; teacher's hyper) + (1 - a) (InfoNCE(last) + InfoNCE(hyper))
    """

    def __init__(self, backbone: Encoder, cfg: CGHConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.student = TwoContexts(backbone, cfg)
        self.teacher = EMA(self.student)
        self.queue = Queue(cfg.queue, {"last": cfg.dim, "hyper": cfg.dim})

    @property
    def backbone(self) -> Encoder:  # type: ignore[override]
        """The student's."""
        return self.student.backbone

    def relations(self, step_info: StepInfo) -> float:
        """Weight of the relations now, from 0 to 1; that of InfoNCE is the rest."""
        return min(1.0, step_info.progress / self.cfg.warmup) if self.cfg.warmup else 1.0

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Terms: `last` and `hyper`, by the context that learns, and `contrast` during the warm-up."""
        first, *further, weak = batch.views
        last, hyper = self.student(first)
        crops = (last, *map(self.student.glance, further))
        with torch.no_grad():
            keys = dict(zip(("last", "hyper"), self.teacher.module(weak), strict=True))
        weight = self.relations(step_info)
        terms = self._relate(crops, hyper, keys)
        total = weight / 2 * (terms["last"] + terms["hyper"])
        if weight < 1:
            terms["contrast"] = self._contrast(last, keys, "last") + self._contrast(hyper, keys, "hyper")
            total = total + (1 - weight) * terms["contrast"]
        memory = {name: gather(rows) for name, rows in keys.items()}
        return LossOutput(total, {name: value.detach() for name, value in terms.items()}, memory)

    def _relate(self, crops: tuple[Tensor, ...], hyper: Tensor, keys: dict[str, Tensor]) -> dict[str, Tensor]:
        cfg, of_last, of_hyper = self.cfg, self.queue["last"], self.queue["hyper"]
        by_last = relation(keys["last"], of_last, cfg.teacher_temperature)
        by_hyper = relation(keys["hyper"], of_hyper, cfg.hyper_teacher_temperature)
        losses = [relation_loss(crop, of_last, cfg.temperature, by_hyper) for crop in crops]
        return {
            "last": torch.stack(losses).mean(),
            "hyper": relation_loss(hyper, of_hyper, cfg.hyper_temperature, by_last),
        }

    def _contrast(self, queries: Tensor, keys: dict[str, Tensor], context: str) -> Tensor:
        return info_nce(queries, self.queue[context], keys[context], self.cfg.contrast_temperature)

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Moves the teacher and pushes its two descriptions of the batch, into the same places."""
        self.teacher.update(self.student, self.cfg.momentum)
        enqueue_normalized(self.queue, loss.memory)

    def target_encoder(self) -> Encoder:
        """The teacher's backbone."""
        return self.teacher.module.backbone

    def embed(self, images: Tensor) -> Tensor:
        """The projections of the last vector, [B C H W] -> [B D]."""
        return self.student.glance(images)
