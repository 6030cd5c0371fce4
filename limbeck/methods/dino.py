"""DINO: predict, from every crop, the EMA encoder's centered and sharpened distribution over prototypes.

Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, *Emerging Properties in Self-Supervised Vision Transformers*,
ICCV 2021. Defaults are those of `main_dino.py` in facebookresearch/dino 7c446df.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.distributed import mean_over_processes
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.assignment import sharpen, swapped_prediction
from limbeck.methods.base import EMAHost, HostOutput, encode_views
from limbeck.methods.config.dino import DINOConfig
from limbeck.models.heads import Head, PrototypeLayer, mlp

GLOBAL_VIEWS = 2  # the first views of a preset, which the EMA encoder gets


class DINOProjector(nn.Module):
    """Linear layers to the embedding, and its cosines with prototypes."""

    def __init__(self, embedding: nn.Sequential, prototypes: PrototypeLayer) -> None:
        super().__init__()
        self.embedding = embedding
        self.prototypes = prototypes

    def forward(self, features: Float[Tensor, "B _"]) -> Float[Tensor, "B Q"]:
        """Map features to cosines."""
        return self.prototypes(self.embedding(features))


class DINO(EMAHost):
    """Cross-entropy of every crop with the EMA encoder's distribution for every other global crop.

    A head ends in prototypes of its own. Centering keeps one prototype from winning everywhere, sharpening keeps the
    distribution from becoming uniform.
    """

    cfg: DINOConfig
    frozen: Tensor  # [] int64, steps for which the prototypes are still frozen
    center: Tensor  # [num_prototypes]
    collapse_hint = (
        "raise the momentum of the EMA encoder, lower target_temperature or freeze the prototypes for longer"
    )

    def __init__(self, backbone: Encoder, cfg: DINOConfig) -> None:
        super().__init__(backbone, cfg)
        self.register_buffer("frozen", torch.tensor(cfg.freeze_steps or 0))
        self.register_buffer("center", torch.zeros(cfg.num_prototypes))

    def make_head(self, dim: int, hidden: int | None = None, trailing_norm: bool | None = None) -> Head:
        """Build linear layers with GELU, and prototypes; normal weights of deviation 0.02, no biases at the start."""
        cfg = self.cfg
        norm = cfg.trailing_norm if trailing_norm is None else trailing_norm
        widths = [dim, *[hidden or cfg.hidden] * (cfg.projector_layers - 1), cfg.dim]
        layers = mlp(widths, trailing_norm=norm, norm=cfg.head_norm, bias=cfg.head_bias, gelu=True)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        return Head(DINOProjector(layers, PrototypeLayer(cfg.dim, cfg.num_prototypes)))

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass over the rows [view 1; view 2; ...]; its target are the distributions [2*B Q] of the first two.

        The EMA encoder has both global views in one scope of BatchNorm.
        """
        features = encode_views(self.backbone, batch.views, taps)
        scores = self._scores(features.final)
        with torch.no_grad():
            outputs = self.ema_encoder.module(torch.cat(batch.views[:GLOBAL_VIEWS]))
            mean = mean_over_processes(outputs.mean(0, keepdim=True))
        targets = sharpen(outputs, self.center, self.cfg.target_temperature)
        return HostOutput((features,), (scores,), (targets,), {"mean": mean})

    @property
    def projector(self) -> DINOProjector:
        """The projector of the trained network."""
        projector = self.head.projector
        assert isinstance(projector, DINOProjector)
        return projector

    def _scores(self, features: Float[Tensor, "rows _"]) -> Float[Tensor, "rows Q"]:
        """Return the output of the head. Frozen prototypes get a zero gradient, not none, because DDP waits for one."""
        prototypes = self.projector.prototypes.weight
        weight = torch.where(self.frozen > 0, prototypes.detach(), prototypes)
        return PrototypeLayer.scores(self.projector.embedding(features), weight)

    def pair_loss(self, queries: Float[Tensor, "rows Q"], targets: Float[Tensor, "targets Q"]) -> Float[Tensor, ""]:
        """Predict the distributions of the two global views from every other view, [V*B Q]."""
        targets = targets.unflatten(0, (GLOBAL_VIEWS, -1))
        return swapped_prediction(queries.unflatten(0, (-1, targets.shape[1])), targets, self.cfg.temperature)

    @torch.no_grad()
    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder and the center, and count down the steps for which the prototypes are frozen."""
        super().after_step(loss, step_info)
        self.center.lerp_(loss.memory["mean"].mean(0).to(self.center.dtype), 1 - self.cfg.center_momentum)
        self.frozen.sub_(1).clamp_(min=0)

    def encoder(self) -> Encoder:
        """Return the backbone of the EMA encoder, which the authors evaluate."""
        return self.ema_encoder.module.backbone

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the embeddings before the prototypes."""
        return self.projector.embedding(self.backbone(images).final)
