"""Hosts: methods that another method can build on, because encoding and scoring are separate."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import gather
from limbeck.core.types import Batch, Encoder, Features, LossOutput, StepInfo
from limbeck.methods.base.method import Method
from limbeck.methods.config.base import HostConfig
from limbeck.models.heads import Head, mlp

T = TypeVar("T")


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


def local_crops_twice(views: Sequence[T]) -> tuple[T, ...]:
    """Return what belongs to the two global views, then twice what belongs to each local crop: it has both as targets.

    These are the pairs of SwAV: a global view is compared with every other view of its image.
    """
    return (*views[:2], *(view for view in views[2:] for _ in range(2)))


class BatchHost(Host):
    """A host whose views go through the network in one pass; the global ones are targets, with their gradient."""

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass over the V*B rows [view 1; view 2; ...]; its targets are the global rows of all processes."""
        features = encode_views(self.backbone, batch.views, taps)
        z = self.head.project(features.final)
        whole = self.cfg.num_global_views * len(batch.views[0])
        targets = z[:whole] if len(z) > whole else z  # a slice of all rows would add up gradients in another order
        return HostOutput((features,), (z,), (gather(targets),), {})


class PairHost(Host):
    """A host of two views that are each other's targets, with their gradient, and of local crops; a pass each."""

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run one pass, and one scope of BatchNorm, per view; the target is the projection of the other view.

        A local crop has two: its pass counts twice, once with each global view.
        """
        features = tuple(self.backbone(view, taps) for view in batch.views)
        first, second, *local = projections = tuple(self.head.project(f.final) for f in features)
        targets = (second, first) * (1 + len(local))
        return HostOutput(local_crops_twice(features), local_crops_twice(projections), targets, {})
