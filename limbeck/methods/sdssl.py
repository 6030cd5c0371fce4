"""SDSSL: train every layer, through a head of its own, on the targets that the host has for the last layer.

Jang, Kim, Yoo, Kong, Kim, Kwak, *Self-Distilled Self-supervised Representation Learning*, WACV 2023 (arXiv 2111.12958);
authors' code hagiss/SDSSL bbd34fa, whose choices are the defaults for ViTs.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.schedules import cosine
from limbeck.core.types import Batch, Encoder, Features, LossOutput, StepInfo
from limbeck.methods.base import Host, HostOutput, Method
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.models.heads import Head


class SDSSL(Method):
    """A host plus one head per layer; layers learn from the last one, never the reverse.

    With z_l the projection of layer l, q_l its predictor and t the host's target:

        total = host + alpha / L * sum_l pair_loss(q_l(z_l), sg t)
                     + predictor_weight * (sum_l pair_loss(q_l(sg z_l), sg t) + pair_loss(q(sg z), sg t))

    The third sum rescales the gradients of the predictors and reaches nothing else. So no predictor runs twice: with
    w = predictor_weight a layer's loss is weighted by alpha / L + w, and z_l gets (alpha / L) / (alpha / L + w) of its
    gradient.
    """

    def __init__(self, host: Host, cfg: SDSSLConfig) -> None:
        super().__init__()
        taps, dims = host.backbone.taps, host.backbone.tap_dims
        layers = taps[:-1] if cfg.layers is None else cfg.layers
        cfg.check_depths(taps)
        self.cfg, self.host, self.layers = cfg, host, tuple(layers)
        self.alpha_end = cfg.host.sdssl_alpha if cfg.alpha is None else cfg.alpha
        usual = "cosine" if len(set(dims.values())) == 1 else "constant"
        self.alpha_schedule = cfg.alpha_schedule or usual
        self.heads = nn.ModuleDict({str(t): host.make_head(dims[t], cfg.hidden, cfg.trailing_norm) for t in layers})

    @property
    def backbone(self) -> Encoder:  # type: ignore[override]  # nn.Module would register it twice
        """The host's backbone."""
        return self.host.backbone

    @property
    def collapse_hint(self) -> str:
        """The host's hint."""
        return self.host.collapse_hint

    @property
    def nonfinite_hint(self) -> str:
        """The host's hint."""
        return self.host.nonfinite_hint

    def alpha(self, step_info: StepInfo) -> float:
        """Return the weight of the mean layer loss at this step."""
        constant = self.alpha_schedule == "constant"
        return self.alpha_end if constant else cosine(0.0, self.alpha_end, step_info.progress)

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the terms `host`, `layer<l>`, and `predictor` where predictors are also trained alone."""
        output = self.host.encode(batch, self.layers)
        targets = tuple(t.detach() for t in output.targets)
        alone = self.cfg.predictor_weight if self.host.has_predictor else 0.0
        joint = self.alpha(step_info) / max(1, len(self.layers))
        host = self._host_loss(output, 1.0, alone)
        layers = {t: self._layer_loss(t, output.features, targets, joint, alone) for t in self.layers}
        total = (1 + alone) * host
        if layers:
            total = total + (joint + alone) * torch.stack(list(layers.values())).sum()
        terms = {"host": host, **{f"layer{t}": value for t, value in layers.items()}}
        if alone:
            terms["predictor"] = torch.stack(list(terms.values())).sum()
        return LossOutput(total, {name: value.detach() for name, value in terms.items()}, output.memory)

    def _host_loss(self, output: HostOutput, joint: float, alone: float) -> Float[Tensor, ""]:
        """Return the host's loss; all of its gradient reaches the predictor, and a share what is before."""
        projections, targets = (
            tuple(share_gradient(z, joint, alone) for z in rows) for rows in (output.projections, output.targets)
        )
        return self.host.loss(output._replace(projections=projections, targets=targets))

    def _layer_loss(
        self, layer: int, features: tuple[Features, ...], targets: tuple[Tensor, ...], joint: float, alone: float
    ) -> Float[Tensor, ""]:
        """Return the loss of a layer; all of its gradient reaches the predictor, and a share what is before."""
        head = self._head(layer)
        projections = (share_gradient(head.project(f.taps[layer]), joint, alone) for f in features)
        pairs = zip(projections, targets, strict=True)
        return torch.stack([self.host.pair_loss(head.predict(z), t) for z, t in pairs]).sum()

    def _head(self, layer: int) -> Head:
        return cast(Head, self.heads[str(layer)])

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the state of the host."""
        self.host.after_step(loss, step_info)

    def encoder(self) -> Encoder:
        """Return the host's encoder."""
        return self.host.encoder()

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the host's embeddings."""
        return self.host.embed(images)

    def target_encoder(self) -> Encoder | None:
        """Return the host's target encoder."""
        return self.host.target_encoder()


def share_gradient(rows: Tensor, joint: float, alone: float) -> Tensor:
    """Return the same values; what they are computed from gets joint / (joint + alone) of their gradient."""
    if not alone or not rows.requires_grad:
        return rows
    return torch.lerp(rows.detach(), rows, joint / (joint + alone))
