"""Hosts: methods that another method can build on, because encoding and scoring are separate."""

from abc import abstractmethod
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, Encoder, Features, LossOutput, StepInfo
from limbeck.methods.base.method import Method
from limbeck.methods.config.base import HostConfig
from limbeck.models.heads import Head, mlp


class HostOutput(NamedTuple):
    """Result of `Host.encode`. A *pass* is one run of the network, over one view or over several stacked ones."""

    features: tuple[Features, ...]  # per pass
    projections: tuple[Float[Tensor, "B D"], ...]  # per pass, the host's projection of `final`
    targets: tuple[Tensor, ...]  # per pass, whatever `pair_loss` compares the queries of the pass with
    memory: dict[str, Tensor]  # what `after_step` needs


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
