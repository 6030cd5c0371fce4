"""Hosts: methods that another method can build on, because encoding and scoring are separate."""

from abc import abstractmethod
from dataclasses import dataclass
from itertools import cycle, groupby, islice
from typing import ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import gather
from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, Encoder, Features, LossOutput, StepInfo
from limbeck.data.sampling import ViewSpec
from limbeck.methods.base.method import Method, MethodConfig
from limbeck.models.heads import Head, mlp


class HostOutput(NamedTuple):
    """Result of `Host.encode`. A *pass* is one run of the network, over one view or over several stacked ones."""

    features: tuple[Features, ...]  # per pass
    projections: tuple[Float[Tensor, "B D"], ...]  # per pass, the host's projection of `final`
    targets: tuple[Tensor, ...]  # per pass, whatever `pair_loss` compares the queries of the pass with
    memory: dict[str, Tensor]  # what `after_step` needs


@dataclass(frozen=True, kw_only=True)
class HostConfig(MethodConfig):
    """Configuration of a host; head widths are those of hagiss/SDSSL bbd34fa."""

    head_norm: ClassVar[bool] = True
    """Whether BatchNorms follow the hidden layers of the heads."""
    head_bias: ClassVar[bool] = False
    """Whether the linear layers of the heads have biases."""
    head_last_bias: ClassVar[bool | None] = None
    """Whether the last linear layer of a head has one; None: as the others."""
    sdssl_alpha: ClassVar[float] = 0.8
    """Default weight of SDSSL's layer loss over this host (the authors' for ViT-B/16)."""

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
        """Build the host with new heads around `backbone`."""


@dataclass(frozen=True, kw_only=True)
class MultiViewConfig(HostConfig):
    """A host that compares any number of views of an image."""

    num_views: int = 2
    """Views of an image, at least 2, from the preset's in turn."""

    def make_views(self, size: int) -> tuple[ViewSpec, ...]:
        """Return `num_views` views, from those of the preset in turn."""
        return tuple(islice(cycle(super().make_views(size)), self.num_views))

    def resolve(self, context: DataContext) -> Self:
        """Return this configuration; UserError for fewer than two views."""
        if self.num_views < 2:
            message = f"num_views is {self.num_views}: a view is compared with others of its image, take at least 2"
            raise UserError(message, code="too-few-views")
        return self


class Host(Method):
    """A method that compares queries with targets, so that another method can add queries of its own."""

    cfg: HostConfig
    head: Head
    has_predictor: bool = False

    def __init__(self, backbone: Encoder, cfg: HostConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.backbone = backbone
        self.head = self.make_head(backbone.dim)

    def make_head(self, dim: int, hidden: int | None = None, trailing_norm: bool | None = None) -> Head:
        """Build a head like the host's for features of width `dim`; `hidden` is the width of the projector alone."""
        cfg = self.cfg
        norm = cfg.trailing_norm if trailing_norm is None else trailing_norm
        inner = [hidden or cfg.hidden] * (cfg.projector_layers - 1)
        widths = [[dim, *inner, cfg.dim]] + [[cfg.dim, cfg.hidden, cfg.dim]] * self.has_predictor
        norms, bias, last_bias = cfg.head_norm, cfg.head_bias, cfg.head_last_bias
        return Head(*(mlp(w, trailing_norm=norm, norm=norms, bias=bias, last_bias=last_bias) for w in widths))

    @abstractmethod
    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run the networks once and decide which queries have which targets, and where gradients stop."""

    @abstractmethod
    def pair_loss(self, queries: Float[Tensor, "B D"], targets: Tensor) -> Float[Tensor, ""]:
        """Score the queries of one pass against their targets from `encode`.

        It is called many times per step, so it changes no state.
        """

    def loss(self, output: HostOutput) -> Float[Tensor, ""]:
        """Return the host's own loss: the queries of the last layer against their targets, summed over the passes."""
        pairs = zip(output.projections, output.targets, strict=True)
        return torch.stack([self.pair_loss(self.head.predict(z), t) for z, t in pairs]).sum()

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the host's own loss; without terms."""
        output = self.encode(batch)
        return LossOutput(self.loss(output), {}, output.memory)

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the projections."""
        return self.head.project(self.backbone(images).final)


def resolve_freeze_steps(steps: int | None, context: DataContext) -> int:
    """Return for how many steps the prototypes are frozen; None: an epoch, at most a tenth of the run.

    Raises:
        UserError: they would be frozen for the whole run.
    """
    freeze = context.max_initial_steps if steps is None else steps
    if freeze >= context.total_steps:
        message = f"freeze_steps is {freeze} and the run has {context.total_steps} steps"
        remedy = f"the prototypes would never learn; take {context.max_initial_steps} or leave it out"
        raise UserError(f"{message}: {remedy}", code="freeze-steps-too-many")
    return freeze


def check_prototypes(count: int, default: int) -> None:
    """Raise UserError for fewer than two prototypes; `default` is what to take."""
    if count < 2:
        message = f"num_prototypes is {count}: take at least 2, or the default of {default}"
        raise UserError(message, code="too-few-prototypes")


def encode_views(backbone: Encoder, views: tuple[Tensor, ...], taps: tuple[int, ...]) -> Features:
    """Run the views through the backbone, those of one size together, in one scope of BatchNorm; rows are view-major.

    So do the multi-crop wrappers of SwAV and DINO (facebookresearch/swav 06b1b7c, facebookresearch/dino 7c446df).
    """
    stacks = [torch.cat(list(group)) for _, group in groupby(views, key=lambda view: view.shape[-2:])]
    parts = [backbone(stack, taps) for stack in stacks]
    joined = {tap: torch.cat([features.taps[tap] for features in parts]) for tap in taps}
    return Features(torch.cat([features.final for features in parts]), joined, {})


class BatchHost(Host):
    """A host whose views go through the network in one batch and are each other's targets, with their gradient."""

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass over the V*B rows [view 1; view 2; ...]; its targets are the projections of all processes."""
        features = self.backbone(torch.cat(batch.views), taps)
        z = self.head.project(features.final)
        return HostOutput((features,), (z,), (gather(z),), {})


class PairHost(Host):
    """A host of two views, a pass each, that are each other's targets, with their gradient."""

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass, and one scope of BatchNorm, per view; the target is the projection of the other view."""
        features = tuple(self.backbone(view, taps) for view in batch.views)
        first, second = projections = tuple(self.head.project(f.final) for f in features)
        return HostOutput(features, projections, (second, first), {})
