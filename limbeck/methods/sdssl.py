"""SDSSL: every layer answers, through a head of its own, the question that the host asks of the last one.

Jang, Kim, Yoo, Kong, Kim, Kwak, *Self-Distilled Self-supervised Representation Learning*, WACV 2023 (arXiv 2111.12958);
authors' code hagiss/SDSSL bbd34fa, whose choices are the defaults.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.schedules import cosine
from limbeck.core.types import Batch, DataContext, Encoder, LossOutput, StepInfo
from limbeck.data.sampling import ViewSpec
from limbeck.methods.base import Host, HostConfig, HostOutput, Method, MethodCard, MethodConfig
from limbeck.methods.byol import BYOLConfig
from limbeck.models.heads import Head

RELEASE_ALPHA = {"simclr": 0.8, "byol": 0.8, "mocov3": 1.0}  # ViT-B/16 settings of the release


@dataclass(frozen=True, kw_only=True)
class SDSSLConfig(MethodConfig):
    """Makes every layer usable, so that the trained network can be cut at any depth."""

    name: ClassVar[str] = "sdssl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="every layer learns from the last one of another method",
        state="as its host",
        use_when="you want to cut the network to the depth that a device can afford",
        cost=3.2,
    )
    not_a_host_reason: ClassVar[str] = "its layers learn from the last one already"
    host: HostConfig = field(default_factory=BYOLConfig)
    """The method whose targets the layers learn from."""
    layers: tuple[int, ...] | None = None
    """Layers that learn from the last one, counted from 1; by default all but the last. None at all is the control
    "host + predictor-only loss"."""
    alpha: float | None = None
    """Weight of the mean layer loss at the end of the run; by default the release's (0.8; 1.0 over MoCo v3)."""
    alpha_schedule: Literal["cosine", "constant"] = "cosine"
    """Rise from 0 along a half-cosine over the run, or the same weight from the start."""
    predictor_weight: float = 1.0
    """Weight of the loss that trains the predictors alone, on detached projections; for hosts with predictors."""
    hidden: int = 2048
    """Width of the hidden layers of the projectors of the layers (the host's own is `host.hidden`)."""
    trailing_norm: bool | None = None
    """End the layers' heads with a BatchNorm; by default as the host does."""

    @property
    def views(self) -> str:
        """The host's."""
        return self.host.views

    def make_views(self, size: int) -> tuple[ViewSpec, ...]:
        """The host's."""
        return self.host.make_views(size)

    def resolve(self, context: DataContext) -> Self:
        """With the host fitted."""
        return replace(self, host=self.host.resolve(context))

    def build(self, backbone: Encoder) -> "SDSSL":
        """SDSSL with fresh heads over the host built around `backbone`."""
        return SDSSL(self.host.build(backbone), self)


class SDSSL(Method):
    """A host plus one head per layer. Layers learn from the last one, never the reverse.

    With z_l the projection of layer l, q_l its predictor and t the host's target:

        total = host + alpha / L * sum_l match(q_l(z_l), sg t)
                     + predictor_weight * (sum_l match(q_l(sg z_l), sg t) + match(q(sg z), sg t))

    The third sum rescales the gradients of the predictors and touches nothing else.
    """

    def __init__(self, host: Host, cfg: SDSSLConfig) -> None:
        super().__init__()
        backbone = host.backbone
        layers = backbone.taps[:-1] if cfg.layers is None else cfg.layers
        for layer in layers:
            if layer not in backbone.taps[:-1]:
                raise UserError(
                    f"layer {layer} cannot learn from the last one; layers are 1 to {backbone.taps[-1] - 1}"
                )
        self.cfg, self.host, self.layers = cfg, host, tuple(layers)
        self.alpha_end = RELEASE_ALPHA.get(cfg.host.name, 0.8) if cfg.alpha is None else cfg.alpha
        dims = backbone.tap_dims
        self.heads = nn.ModuleDict({str(t): host.make_head(dims[t], cfg.hidden, cfg.trailing_norm) for t in layers})

    @property
    def backbone(self) -> Encoder:  # type: ignore[override]
        """The host's."""
        return self.host.backbone

    @property
    def collapse_hint(self) -> str:  # type: ignore[override]
        """The host's."""
        return self.host.collapse_hint

    def alpha(self, step_info: StepInfo) -> float:
        """Weight of the mean layer loss now."""
        return (
            self.alpha_end if self.cfg.alpha_schedule == "constant" else cosine(0.0, self.alpha_end, step_info.progress)
        )

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Terms: `host` (the last layer alone), `layer<l>`, and `predictor` where the host has predictors."""
        step = self.host.encode(batch, self.layers)
        targets = tuple(t.detach() for t in step.targets)
        projected = {t: tuple(self._head(t).project(f.taps[t]) for f in step.features) for t in self.layers}
        # Before the live passes: BatchNorm statistics of the predictors then move in the order of the release.
        predictor = self._predictor_only(step, projected, targets)
        layers = {t: self._match(self._head(t), z, targets) for t, z in projected.items()}
        host = self.host.loss(step)
        total = host + predictor * self.cfg.predictor_weight
        if layers:
            total = total + self.alpha(step_info) * torch.stack(list(layers.values())).mean()
        terms = {"host": host, **{f"layer{t}": value for t, value in layers.items()}}
        if self.host.has_predictor:
            terms["predictor"] = predictor
        return LossOutput(total, {name: value.detach() for name, value in terms.items()}, step.memory)

    def _head(self, layer: int) -> Head:
        head = self.heads[str(layer)]
        assert isinstance(head, Head)
        return head

    def _match(self, head: Head, projections: tuple[Tensor, ...], targets: tuple[Tensor, ...]) -> Tensor:
        pairs = zip(projections, targets, strict=True)
        return torch.stack([self.host.pair_loss(head.predict(z), t) for z, t in pairs]).sum()

    def _predictor_only(
        self, step: HostOutput, projected: dict[int, tuple[Tensor, ...]], targets: tuple[Tensor, ...]
    ) -> Tensor:
        if not self.host.has_predictor or self.cfg.predictor_weight == 0:
            return torch.zeros((), device=targets[0].device)
        every = [(self._head(t), z) for t, z in projected.items()] + [(self.host.head, step.projections)]
        losses = [self._match(head, tuple(z.detach() for z in zs), targets) for head, zs in every]
        return torch.stack(losses).sum()

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """The host's."""
        self.host.after_step(loss, step_info)

    def encoder(self) -> Encoder:
        """The host's."""
        return self.host.encoder()

    def embed(self, images: Tensor) -> Tensor:
        """The host's."""
        return self.host.embed(images)

    def nonfinite_hint(self) -> str:
        """The host's."""
        return self.host.nonfinite_hint()

    def target_encoder(self) -> Encoder | None:
        """The host's."""
        return self.host.target_encoder()
