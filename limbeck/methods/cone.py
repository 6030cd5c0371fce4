"""CoNe: supervised classification plus agreement with the nearest neighbors in a queue, in class and in prediction.

Zheng, You, Huang, Su, Wang, Qian, Wang, Xu, *CoNe: Contrast Your Neighbours for Supervised Image Classification*,
arXiv 2308.10761. Defaults are those of mingkai-zheng/CoNe 4f96621, `script/train.sh`, for ResNet-50 on ImageNet.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.errors import UserError
from limbeck.core.schedules import cosine
from limbeck.core.types import Batch, DataContext, Encoder, LossOutput, StepInfo
from limbeck.losses.neighbors import class_cross_entropy, neighbor_consistency, neighbor_contrast
from limbeck.methods.base import Method, MethodCard, MethodConfig
from limbeck.methods.base.queue import resolve_queue_size
from limbeck.models.ema import EMA
from limbeck.models.heads import mlp
from limbeck.models.queue import Queue


@dataclass(frozen=True, kw_only=True)
class CoNeConfig(MethodConfig):
    """CoNe (supervised): the labels of the store, and neighbors that should be of the same class."""

    name: ClassVar[str] = "cone"
    card: ClassVar[MethodCard] = MethodCard(
        summary="classify, in agreement with the nearest neighbors in a queue (supervised)",
        state="EMA encoder, queue",
        use_when="every image has a label: an upper bound for the other methods",
        cost=1.2,
    )
    view_count: ClassVar[tuple[int, int]] = (1, 1)
    needs_labels: ClassVar[bool] = True
    not_a_host_reason: ClassVar[str] = "its targets are labels, not another view"

    views: str = "supervised"
    """Preset of augmentations (docs/data.md), of one view."""
    num_classes: int | None = None
    """Classes of the labels; None: those of the store."""
    dim: int = 256
    """Width of the embedding."""
    hidden: int = 4096
    """Width of the projector's hidden layer."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    queue_size: int = 65536
    """Rows of the queue, the newest of all processes; by default at most half of a smaller store."""
    num_neighbors: int = 512
    """Most similar rows of the queue that an image is compared with."""
    temperature: float = 0.1
    """Divides the cosines with the neighbors."""
    vote_temperature: float = 0.07
    """Divides the cosines that weight the votes of the queue."""
    contrast_weight: float = 0.7
    """Weight of the contrast with the neighbors."""
    consistency_weight: float = 0.4
    """Weight of the consistency with the votes."""
    label_smoothing: float = 0.0
    """Share of a label that is spread over the other classes."""
    warmup_steps: int | None = None
    """Optimizer steps with the cross-entropy alone, while the queue fills; None: an epoch, at most a tenth of the
    run."""
    ema_momentum: float = 0.996
    """Momentum of the EMA encoder at the start; it rises to 1 over the run along a half-cosine."""

    def resolve(self, context: DataContext) -> Self:
        """Return this configuration with classes, queue and warm-up; UserError if labels are missing or do not fit."""
        self.check_classes(context.num_classes)
        queue_size = resolve_queue_size(self.queue_size, type(self).queue_size, context)
        if not 1 <= self.num_neighbors <= queue_size:
            message = f"num_neighbors is {self.num_neighbors}: take 1 to {queue_size:,}, the rows of the queue"
            raise UserError(message, code="num-neighbors-out-of-range")
        warmup = context.max_initial_steps if self.warmup_steps is None else self.warmup_steps
        return replace(self, num_classes=context.num_classes, queue_size=queue_size, warmup_steps=warmup)

    def check_classes(self, num_classes: int) -> None:
        """Raise UserError unless every image has a label of one of two or more classes."""
        if num_classes < 2:
            found = "there is only one class" if num_classes else "some images of the store have none"
            remedy = "give each class a folder of its own, or choose a method without labels"
            message = f"{self.name} needs a label for every image, of two classes or more, and {found}: {remedy}"
            raise UserError(message, code="labels-needed")
        if self.num_classes not in (None, num_classes):
            message = f"num_classes is {self.num_classes} and the store has {num_classes}: leave the option out"
            raise UserError(message, code="wrong-num-classes")
        if not 0 <= self.label_smoothing <= 1 - 1 / num_classes:
            message = f"label_smoothing is {self.label_smoothing}: take 0 to {1 - 1 / num_classes:.3g}"
            raise UserError(message, code="label-smoothing-out-of-range")

    def build(self, backbone: Encoder) -> "CoNe":
        """Build CoNe with new heads around `backbone`; needs a resolved configuration."""
        return CoNe(backbone, self)


class Classifier(nn.Module):
    """A backbone, a projector, and a linear classifier of the embedding."""

    def __init__(self, backbone: Encoder, projector: nn.Module, output: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.projector, self.output = backbone, projector, output

    def forward(self, view: Float[Tensor, "B *item"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B Q"]]:
        """Return embeddings and logits."""
        embedding = self.projector(self.backbone(view).final)
        return embedding, self.output(embedding)


class CoNe(Method):
    """Cross-entropy + contrast with the neighbors of the same class + KL divergence from the votes of the queue.

    The EMA encoder copies backbone, projector and classifier and gets the same view; the queue stores its embeddings
    and class probabilities, and the labels. The student's backbone is evaluated; the classifier is discarded.
    """

    def __init__(self, backbone: Encoder, cfg: CoNeConfig) -> None:
        super().__init__()
        assert cfg.num_classes is not None
        self.cfg = cfg
        self.backbone = backbone
        widths = [backbone.dim, *[cfg.hidden] * (cfg.projector_layers - 1), cfg.dim]
        self.projector = mlp(widths, bias=True)
        self.output = nn.Linear(cfg.dim, cfg.num_classes)
        self.ema_encoder = EMA(self.student())
        self.queue = Queue(cfg.queue_size, {"keys": cfg.dim, "labels": None, "votes": cfg.num_classes})

    def student(self) -> Classifier:
        """Return the trained network with its heads."""
        return Classifier(self.backbone, self.projector, self.output)

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the term `labels`, and after the warm-up `contrast` and `consistency`, all before their weights."""
        (view,), labels, cfg = batch.views, batch.labels, self.cfg
        assert labels is not None
        assert cfg.warmup_steps is not None
        embedding, logits = self.student()(view)
        with torch.no_grad():
            key, key_logits = self.ema_encoder.module(view)
        terms = {"labels": class_cross_entropy(logits, labels, cfg.label_smoothing)}
        total = terms["labels"]
        if step_info.step >= cfg.warmup_steps:
            terms |= self._neighbor_terms(embedding, logits, labels, key)
            total = total + cfg.contrast_weight * terms["contrast"] + cfg.consistency_weight * terms["consistency"]
        memory = {"keys": F.normalize(key, dim=1), "labels": labels, "votes": key_logits.softmax(1)}
        return LossOutput(total, {k: v.detach() for k, v in terms.items()}, {k: gather(v) for k, v in memory.items()})

    def _neighbor_terms(self, embedding: Tensor, logits: Tensor, labels: Tensor, key: Tensor) -> dict[str, Tensor]:
        cfg = self.cfg
        bank, bank_labels, votes = self.queue["keys"], self.queue["labels"], self.queue["votes"]
        contrast = neighbor_contrast(embedding, labels, bank, bank_labels, cfg.num_neighbors, cfg.temperature)
        consistency = neighbor_consistency(logits, key, bank, bank_labels, votes, cfg.vote_temperature)
        return {"contrast": contrast, "consistency": consistency}

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder with the momentum of the next step, as the authors do, and enqueue the keys."""
        progress = (step_info.step + 1) / step_info.total_steps
        self.ema_encoder.update(self.student(), cosine(self.cfg.ema_momentum, 1.0, progress))
        self.queue.enqueue(loss.memory)

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the embeddings."""
        return self.student()(images)[0]

    def target_encoder(self) -> Encoder:
        """Return the backbone of the EMA encoder."""
        return self.ema_encoder.module.backbone
