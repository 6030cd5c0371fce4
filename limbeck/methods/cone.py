"""CoNe: supervised classification plus agreement with the nearest neighbors in a queue, in class and in prediction.

Zheng, You, Huang, Su, Wang, Qian, Wang, Xu, *CoNe: Contrast Your Neighbours for Supervised Image Classification*,
arXiv 2308.10761. Defaults are those of mingkai-zheng/CoNe 4f96621, `script/train.sh`, for ResNet-50 on ImageNet.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.schedules import cosine
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.neighbors import class_cross_entropy, neighbor_consistency, neighbor_contrast
from limbeck.methods.base import Method
from limbeck.methods.config.cone import CoNeConfig
from limbeck.models.ema import EMA
from limbeck.models.heads import mlp
from limbeck.models.queue import Queue


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
