"""What a method is, and what a method is that another can build on.

A method owns what is learnt or remembered; arithmetic lives in `losses`. Asking is separate from telling: `forward`
computes a loss and changes nothing (BatchNorm statistics excepted), `after_step` moves averages and queues, once per
optimiser step.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from limbeck.backbones import Backbone
from limbeck.config import Choice
from limbeck.contracts import Batch, Clock, Features, Loss
from limbeck.distributed import gather
from limbeck.errors import UserError
from limbeck.heads import Head, mlp
from limbeck.schedule import cosine
from limbeck.state import Ema


@dataclass(frozen=True, kw_only=True)
class MethodConfig(Choice):
    """What every method's configuration answers: which views it wants, and the method itself."""

    @property
    @abstractmethod
    def views(self) -> str:
        """Preset of augmentations (`limbeck.data.views.PRESETS`)."""

    @classmethod
    def choose(cls, name: str) -> type["MethodConfig"]:
        """The configuration class of the method `name`."""
        from limbeck.methods import method_config

        chosen = method_config(name)
        if not issubclass(chosen, cls):
            raise UserError(f"'{name}' has no targets that another method could use; choose another host")
        return chosen

    @abstractmethod
    def build(self, backbone: Backbone) -> "Method":
        """The method with fresh heads around `backbone`."""


class Method(nn.Module, ABC):
    """A self-supervised objective over a backbone."""

    backbone: Backbone

    @abstractmethod
    def forward(self, batch: Batch, clock: Clock) -> Loss:
        """The loss of a batch; reads state, writes none (BatchNorm statistics excepted)."""

    def after_step(self, loss: Loss, clock: Clock) -> None:
        """Called once after each optimiser step, with the loss of that step and the clock it was computed at."""

    def encoder(self) -> Backbone:
        """What is evaluated and exported."""
        return self.backbone


class Step(NamedTuple):
    """One pass of a host over a batch. A *pass* is one run of the network, over one view or over several stacked."""

    features: tuple[Features, ...]  # per pass
    projections: tuple[Tensor, ...]  # per pass [B D], the host's own projection of `final`
    targets: tuple[Tensor, ...]  # per pass [W*B D], rows of all processes: what the pass's queries are matched with
    memory: dict[str, Tensor]  # what `after_step` has to remember


@dataclass(frozen=True, kw_only=True)
class HostConfig(MethodConfig):
    """A method whose targets other queries can be matched with; head widths are those of hagiss/SDSSL bbd34fa."""

    views: str = "byol"
    """Preset of augmentations: simclr, mocov2, byol (asymmetric, also MoCo v3 and SDSSL), wmse, weak."""
    dim: int = 256
    """Width of the embedding."""
    hidden: int = 4096
    """Width of the hidden layers of projector and predictor."""
    projector_layers: int = 3
    """Linear layers of the projector."""
    trailing_norm: bool = True
    """End projector and predictor with a BatchNorm without scale and shift."""

    @abstractmethod
    def build(self, backbone: Backbone) -> "Host":
        """The host with fresh heads around `backbone`."""


class Host(Method):
    """A method that matches queries to targets, so that another method can add queries of its own."""

    cfg: HostConfig
    head: Head
    has_predictor: bool

    def make_head(self, dim: int, hidden: int | None = None, trailing_norm: bool | None = None) -> Head:
        """A head as the host's own for features of width `dim`; `hidden` is the projector's alone."""
        cfg = self.cfg
        norm = cfg.trailing_norm if trailing_norm is None else trailing_norm
        inner = [hidden or cfg.hidden] * (cfg.projector_layers - 1)
        projector = mlp([dim, *inner, cfg.dim], trailing_norm=norm)
        predictor = mlp([cfg.dim, cfg.hidden, cfg.dim], trailing_norm=norm) if self.has_predictor else None
        return Head(projector, predictor)

    @abstractmethod
    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> Step:
        """Runs the networks once and decides who answers to whom, and where gradients stop."""

    @abstractmethod
    def match(self, queries: Tensor, targets: Tensor) -> Tensor:
        """How well the queries of one pass, [B D], find their targets, [W*B D]; a scalar.

        Called many times a step, so it remembers nothing.
        """

    def loss(self, step: Step) -> Tensor:
        """The host's own loss: its last layer's queries against their targets, summed over the passes."""
        pairs = zip(step.projections, step.targets, strict=True)
        return torch.stack([self.match(self.head.predict(z), t) for z, t in pairs]).sum()

    def forward(self, batch: Batch, clock: Clock) -> Loss:
        """The host alone."""
        step = self.encode(batch)
        return Loss(self.loss(step), {}, step.memory)


@dataclass(frozen=True, kw_only=True)
class MomentumConfig(HostConfig):
    """A host whose targets come from a moving average of itself."""

    momentum: float = 0.996
    """Momentum of the teacher at the start; it rises to 1 over the run along a half-cosine."""


class Branch(nn.Module):
    """A backbone and a projector: what a momentum teacher is made of."""

    def __init__(self, backbone: Backbone, projector: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(self, view: Tensor) -> Tensor:
        """[B C H W] -> [B D]."""
        return self.projector(self.backbone(view).final)


class MomentumHost(Host):
    """Two views; each is predicted from the other, the target being the teacher's: an EMA of backbone and projector."""

    cfg: MomentumConfig
    has_predictor = True

    def __init__(self, backbone: Backbone, cfg: MomentumConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.backbone = backbone
        self.head = self.make_head(backbone.dim)
        self.teacher = Ema(Branch(backbone, self.head.projector))

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> Step:
        """Student(view 2) answers to teacher(view 1), then the other way round.

        One pass, and one scope of BatchNorm, per view.
        """
        first, second = batch.views
        features = tuple(self.backbone(view, taps) for view in (second, first))
        projections = tuple(self.head.project(f.final) for f in features)
        with torch.no_grad():
            targets = tuple(gather(self.teacher.module(view)) for view in (first, second))
        return Step(features, projections, targets, {})

    def after_step(self, loss: Loss, clock: Clock) -> None:
        """Moves the teacher."""
        student = Branch(self.backbone, self.head.projector)
        self.teacher.update(student, cosine(self.cfg.momentum, 1.0, clock.progress))

    def encoder(self) -> Backbone:
        """The teacher's backbone, as the authors evaluate it."""
        return self.teacher.module.backbone
