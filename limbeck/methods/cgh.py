"""CGH: match the similarity distributions of a global vector and of a hypercolumn of the last stages, crosswise.

Gao, Feng, Patras, *Self-Supervised Representation Learning with Cross-Context Learning between Global and Hypercolumn
Features*, WACV 2024 (arXiv 2308.13392). Defaults are those of the authors' only configuration, ResNet-50 on ImageNet in
zaczgao/Cross-Context_Learning 340bca9.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.contrastive import info_nce
from limbeck.losses.relation import relation, relation_loss
from limbeck.methods.base import Method
from limbeck.methods.base.queue_host import enqueue_normalized
from limbeck.methods.config.cgh import CGHConfig
from limbeck.models.ema import EMA
from limbeck.models.heads import HypercolumnPool, mlp
from limbeck.models.queue import Queue


class TwoContexts(nn.Module):
    """A backbone with two embeddings of an image: of its global vector and of a hypercolumn, one projector each."""

    def __init__(self, backbone: Encoder, cfg: CGHConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.taps = cfg.taps(backbone.taps)
        self.pool = HypercolumnPool([backbone.map_dims[tap] for tap in self.taps], backbone.dim)
        projectors = (mlp([backbone.dim, cfg.hidden, cfg.dim], norm=False, bias=True) for _ in range(2))
        self.global_projector, self.hyper_projector = projectors

    def forward(self, view: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """Return the global and the hypercolumn embedding."""
        features = self.backbone(view, self.taps, feature_maps=True)
        column = self.pool([features.feature_maps[tap] for tap in self.taps])
        return self.global_projector(features.final), self.hyper_projector(column)

    def forward_global(self, view: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Return the global embedding alone."""
        return self.global_projector(self.backbone(view).final)


class CGH(Method):
    """Each context of the student against the other one of the EMA encoder, over queues that show the same images.

    The EMA encoder copies the whole student, in training mode; the student's backbone is evaluated. With R the relation
    loss (`losses.relation`) and a rising from 0 to 1 during the warm-up:

        total = a/2 R(hyper; EMA global) + a/2 R(global; EMA hyper) + (1 - a) (InfoNCE(global) + InfoNCE(hyper))
    """

    def __init__(self, backbone: Encoder, cfg: CGHConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.student = TwoContexts(backbone, cfg)
        self.ema_encoder = EMA(self.student)
        self.queue = Queue(cfg.queue_size, {"global": cfg.dim, "hyper": cfg.dim})

    @property
    def backbone(self) -> Encoder:  # type: ignore[override]  # nn.Module would register it twice
        """The student's backbone."""
        return self.student.backbone

    def relation_weight(self, step_info: StepInfo) -> float:
        """Return the weight a of the relations, from 0 to 1; InfoNCE has the weight 1 - a.

        The first step has a = 0, so a reaches 1 at the first step after the warm-up, as in the authors' code.
        """
        return min(1.0, step_info.progress / self.cfg.warmup_fraction) if self.cfg.warmup_fraction else 1.0

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the terms `global` and `hyper`, by the context that learns, and `contrast` during the warm-up."""
        first, *further, weak = batch.views
        whole, hyper = self.student(first)
        crops = (whole, *map(self.student.forward_global, further))
        with torch.no_grad():
            keys = dict(zip(("global", "hyper"), self.ema_encoder.module(weak), strict=True))
        weight = self.relation_weight(step_info)
        terms = self._relate(crops, hyper, keys)
        total = weight / 2 * (terms["global"] + terms["hyper"])
        if weight < 1:
            terms["contrast"] = self._contrast(whole, keys, "global") + self._contrast(hyper, keys, "hyper")
            total = total + (1 - weight) * terms["contrast"]
        memory = {name: gather(rows) for name, rows in keys.items()}
        return LossOutput(total, {name: value.detach() for name, value in terms.items()}, memory)

    def _relate(self, crops: tuple[Tensor, ...], hyper: Tensor, keys: dict[str, Tensor]) -> dict[str, Tensor]:
        cfg, global_bank, hyper_bank = self.cfg, self.queue["global"], self.queue["hyper"]
        by_global = relation(keys["global"], global_bank, cfg.target_temperature)
        by_hyper = relation(keys["hyper"], hyper_bank, cfg.hyper_target_temperature)
        losses = [relation_loss(crop, global_bank, cfg.temperature, by_hyper) for crop in crops]
        return {
            "global": torch.stack(losses).mean(),
            "hyper": relation_loss(hyper, hyper_bank, cfg.hyper_temperature, by_global),
        }

    def _contrast(self, queries: Tensor, keys: dict[str, Tensor], context: str) -> Float[Tensor, ""]:
        return info_nce(queries, self.queue[context], keys[context], self.cfg.contrast_temperature)

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder and enqueue its two embeddings of the batch, at the same places."""
        self.ema_encoder.update(self.student, self.cfg.ema_momentum)
        enqueue_normalized(self.queue, loss.memory)

    def target_encoder(self) -> Encoder:
        """Return the backbone of the EMA encoder."""
        return self.ema_encoder.module.backbone

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the global embeddings."""
        return self.student.forward_global(images)
