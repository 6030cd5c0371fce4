"""SDSSL: train every layer, through a head of its own, on the targets that the host has for the last layer.

Jang, Kim, Yoo, Kong, Kim, Kwak, *Self-Distilled Self-supervised Representation Learning*, WACV 2023 (arXiv 2111.12958);
authors' code hagiss/SDSSL bbd34fa, whose choices are the defaults.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.schedules import cosine
from limbeck.core.types import Batch, DataContext, Encoder, LossOutput, StepInfo
from limbeck.data.sampling import ViewSpec
from limbeck.methods.base import Host, HostConfig, HostOutput, Method, MethodCard, MethodConfig
from limbeck.methods.byol import BYOLConfig
from limbeck.models.heads import Head


@dataclass(frozen=True, kw_only=True)
class SDSSLConfig(MethodConfig):
    """SDSSL: make every layer usable, so that the trained network can be cut at any depth."""

    name: ClassVar[str] = "sdssl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="train every layer on the last layer's targets of another method",
        state="that of its host",
        use_when="you want to cut the network to the depth that a device can afford",
        cost=3.2,
    )
    not_a_host_reason: ClassVar[str] = "its layers learn from the last one already"
    host: HostConfig = field(default_factory=BYOLConfig)
    """The method that provides the targets of the layers."""
    layers: tuple[int, ...] | None = None
    """Layers that learn from the last one, counted from 1; None: all but the last. An empty tuple is the control
    "host + predictor-only loss"."""
    alpha: float | None = None
    """Weight of the mean layer loss at the end of the run; None: the release's (0.8; 1.0 over MoCo v3)."""
    alpha_schedule: Literal["cosine", "constant"] = "cosine"
    """Raise the weight from 0 along a half-cosine over the run, or keep it constant from the start."""
    predictor_weight: float = 1.0
    """Weight of the loss that trains the predictors alone, on detached projections; for hosts with predictors."""
    hidden: int = 2048
    """Width of the hidden layers of the layers' projectors (the host's own is `host.hidden`)."""
    trailing_norm: bool | None = None
    """End the layers' heads with a BatchNorm without scale and shift; None: as the host does."""

    @property
    def views(self) -> str:
        """Preset of the host."""
        return self.host.views

    def make_views(self, size: int) -> tuple[ViewSpec, ...]:
        """Return the views of the host."""
        return self.host.make_views(size)

    def resolve(self, context: DataContext) -> Self:
        """Return this configuration with the resolved host."""
        return replace(self, host=self.host.resolve(context))

    def check_depths(self, depths: tuple[int, ...]) -> None:
        """Raise UserError for layers that are not below the last one, or that the host refuses."""
        self.host.check_depths(depths)
        for layer in self.layers or ():
            if layer not in depths[:-1]:
                message = f"layer {layer} cannot learn from the last one; layers are 1 to {depths[-1] - 1}"
                raise UserError(message, code="depth-out-of-range")

    def build(self, backbone: Encoder) -> "SDSSL":
        """Build SDSSL with new heads over the host built around `backbone`."""
        return SDSSL(self.host.build(backbone), self)


class SDSSL(Method):
    """A host plus one head per layer; layers learn from the last one, never the reverse.

    With z_l the projection of layer l, q_l its predictor and t the host's target:

        total = host + alpha / L * sum_l pair_loss(q_l(z_l), sg t)
                     + predictor_weight * (sum_l pair_loss(q_l(sg z_l), sg t) + pair_loss(q(sg z), sg t))

    The third sum rescales the gradients of the predictors and reaches nothing else.
    """

    def __init__(self, host: Host, cfg: SDSSLConfig) -> None:
        super().__init__()
        taps, dims = host.backbone.taps, host.backbone.tap_dims
        layers = taps[:-1] if cfg.layers is None else cfg.layers
        cfg.check_depths(taps)
        self.cfg, self.host, self.layers = cfg, host, tuple(layers)
        self.alpha_end = cfg.host.sdssl_alpha if cfg.alpha is None else cfg.alpha
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
        constant = self.cfg.alpha_schedule == "constant"
        return self.alpha_end if constant else cosine(0.0, self.alpha_end, step_info.progress)

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the terms `host`, `layer<l>`, and `predictor` where the host has predictors."""
        output = self.host.encode(batch, self.layers)
        targets = tuple(t.detach() for t in output.targets)
        projected = {t: tuple(self._head(t).project(f.taps[t]) for f in output.features) for t in self.layers}
        # Before the live passes: BatchNorm statistics of the predictors then move in the order of the release.
        predictor = self._predictor_only(output, projected, targets)
        layers = {t: self._layer_loss(self._head(t), z, targets) for t, z in projected.items()}
        host = self.host.loss(output)
        total = host + predictor * self.cfg.predictor_weight
        if layers:
            total = total + self.alpha(step_info) * torch.stack(list(layers.values())).mean()
        terms = {"host": host, **{f"layer{t}": value for t, value in layers.items()}}
        if self.host.has_predictor:
            terms["predictor"] = predictor
        return LossOutput(total, {name: value.detach() for name, value in terms.items()}, output.memory)

    def _head(self, layer: int) -> Head:
        return cast(Head, self.heads[str(layer)])

    def _layer_loss(
        self, head: Head, projections: tuple[Tensor, ...], targets: tuple[Tensor, ...]
    ) -> Float[Tensor, ""]:
        pairs = zip(projections, targets, strict=True)
        return torch.stack([self.host.pair_loss(head.predict(z), t) for z, t in pairs]).sum()

    def _predictor_only(
        self, output: HostOutput, projected: dict[int, tuple[Tensor, ...]], targets: tuple[Tensor, ...]
    ) -> Float[Tensor, ""]:
        if not self.host.has_predictor or self.cfg.predictor_weight == 0:
            return torch.zeros((), device=targets[0].device)
        every = [(self._head(t), z) for t, z in projected.items()] + [(self.host.head, output.projections)]
        losses = [self._layer_loss(head, tuple(z.detach() for z in zs), targets) for head, zs in every]
        return torch.stack(losses).sum()

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
