"""What a method is that another can build on: it says who answers to whom, and how well an answer fits."""

from abc import abstractmethod
from dataclasses import dataclass
from itertools import cycle, islice
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from limbeck.core.distributed import gather
from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, Encoder, Features, LossOutput, StepInfo
from limbeck.data.sampling import ViewSpec
from limbeck.methods.base.method import Method, MethodConfig
from limbeck.models.heads import Head, mlp


class HostOutput(NamedTuple):
    """One pass of a host over a batch. A *pass* is one run of the network, over one view or over several stacked."""

    features: tuple[Features, ...]  # per pass
    projections: tuple[Tensor, ...]  # per pass [B D], the host's own projection of `final`
    targets: tuple[Tensor, ...]  # per pass, what `match` holds the pass's queries against
    memory: dict[str, Tensor]  # what `after_step` has to remember


@dataclass(frozen=True, kw_only=True)
class HostConfig(MethodConfig):
    """A method whose targets other queries can be matched with; head widths are those of hagiss/SDSSL bbd34fa."""

    head_norm: ClassVar[bool] = True
    """Whether BatchNorms follow the hidden layers of the heads."""
    head_bias: ClassVar[bool] = False
    """Whether the linear layers of the heads have biases."""

    views: str = "byol"
    """Preset of augmentations (docs/data.md)."""
    dim: int = 256
    """Width of the embedding."""
    hidden: int = 4096
    """Width of the hidden layers of projector and predictor."""
    projector_layers: int = 3
    """Linear layers of the projector."""
    trailing_norm: bool = True
    """End projector and predictor with a BatchNorm without scale and shift."""

    @abstractmethod
    def build(self, backbone: Encoder) -> "Host":
        """The host with fresh heads around `backbone`."""


@dataclass(frozen=True, kw_only=True)
class PositivesConfig(HostConfig):
    """A host that compares any number of views of an image."""

    positives: int = 2
    """Views of an image, at least 2, from the preset's in turn."""

    def make_views(self, size: int) -> tuple[ViewSpec, ...]:
        """`positives` views, from those of the preset in turn."""
        return tuple(islice(cycle(super().make_views(size)), self.positives))

    def resolve(self, context: DataContext) -> Self:
        """This configuration, if a view has others of its image."""
        if self.positives < 2:
            raise UserError(f"positives is {self.positives}: a view needs others of its image, take at least 2")
        return self


class Host(Method):
    """A method that matches queries to targets, so that another method can add queries of its own."""

    cfg: HostConfig
    head: Head
    has_predictor: bool = False

    def __init__(self, backbone: Encoder, cfg: HostConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.backbone = backbone
        self.head = self.make_head(backbone.dim)

    def make_head(self, dim: int, hidden: int | None = None, trailing_norm: bool | None = None) -> Head:
        """A head as the host's own for features of width `dim`; `hidden` is the projector's alone."""
        cfg = self.cfg
        norm = cfg.trailing_norm if trailing_norm is None else trailing_norm
        inner = [hidden or cfg.hidden] * (cfg.projector_layers - 1)
        widths = [[dim, *inner, cfg.dim]] + [[cfg.dim, cfg.hidden, cfg.dim]] * self.has_predictor
        return Head(*(mlp(w, trailing_norm=norm, norm=cfg.head_norm, bias=cfg.head_bias) for w in widths))

    @abstractmethod
    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Runs the networks once and decides who answers to whom, and where gradients stop."""

    @abstractmethod
    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """How well the queries of one pass, [B D], find their targets, as `encode` made them; a scalar.

        Called many times a step, so it remembers nothing.
        """

    def loss(self, step: HostOutput) -> Tensor:
        """The host's own loss: its last layer's queries against their targets, summed over the passes."""
        pairs = zip(step.projections, step.targets, strict=True)
        return torch.stack([self.pair_loss(self.head.predict(z), t) for z, t in pairs]).sum()

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """The host alone."""
        step = self.encode(batch)
        return LossOutput(self.loss(step), {}, step.memory)

    def embed(self, images: Tensor) -> Tensor:
        """The projections, [B C H W] -> [B D]."""
        return self.head.project(self.backbone(images).final)


class BatchHost(Host):
    """All views go through the network in one batch, and are each other's targets, with their gradient."""

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """One pass over the V*B rows [view 1; view 2; ...]; its targets are the projections of all processes."""
        features = self.backbone(torch.cat(batch.views), taps)
        z = self.head.project(features.final)
        return HostOutput((features,), (z,), (gather(z),), {})
