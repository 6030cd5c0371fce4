"""Options of hosts: heads, numbers of views, prototypes, EMA encoders and queues."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.methods.config.base.method import MethodConfig

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.base.host import Host


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

    @property
    def num_global_views(self) -> int:
        """Views of an image that come first in a batch; those after them are local crops."""
        return 2

    @abstractmethod
    def build(self, backbone: "Encoder") -> "Host":
        """Build the host with new heads around `backbone`."""


@dataclass(frozen=True, kw_only=True)
class MultiViewConfig(HostConfig):
    """A host that compares any number of views of an image."""

    num_views: int = 2
    """Views of an image, at least 2, from the preset's in turn."""

    @property
    def num_global_views(self) -> int:
        """All views from the preset."""
        return self.num_views

    def make_views(self, size: int) -> "tuple[ViewSpec, ...]":
        """Return `num_views` views, from those of the preset in turn."""
        return tuple(islice(cycle(super().make_views(size)), self.num_views))

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration; UserError for fewer than two views."""
        if self.num_views < 2:
            message = f"num_views is {self.num_views}: a view is compared with others of its image, take at least 2"
            raise UserError(message, code="too-few-views")
        return self


def resolve_freeze_steps(steps: int | None, context: "DataContext") -> int:
    """Return for how many steps the prototypes are frozen; None: an epoch, at most a tenth of the run.

    Raises:
        UserError: they would be frozen for the whole run.
    """
    freeze = context.max_initial_steps if steps is None else steps
    if freeze >= context.total_steps:
        message = f"freeze_steps is {freeze} and the run has {plural(context.total_steps, 'step')}"
        remedy = f"the prototypes would never learn; take {context.max_initial_steps} or leave it out"
        raise UserError(f"{message}: {remedy}", code="freeze-steps-too-many")
    return freeze


def check_prototypes(count: int, default: int) -> None:
    """Raise UserError for fewer than two prototypes; `default` is what to take."""
    if count < 2:
        message = f"num_prototypes is {count}: take at least 2, or the default of {default}"
        raise UserError(message, code="too-few-prototypes")


@dataclass(frozen=True, kw_only=True)
class EMAConfig(HostConfig):
    """Configuration of a host with an EMA encoder."""

    ema_momentum: float = 0.996
    """Momentum of the EMA encoder at the start."""
    ema_schedule: Literal["cosine", "constant"] = "cosine"
    """Raise the momentum to 1 over the run along a half-cosine, or keep it."""


def resolve_queue_size(rows: int, default: int, context: "DataContext", most: int | None = None) -> int:
    """Return the rows of a queue: `rows`, or half of the store if `rows` is the default and exceeds `most`.

    `most` is the whole store unless given.

    Raises:
        UserError: any other number would hold an image twice, or less than the batch that is enqueued at once.
    """
    images, batch = context.num_images, context.batch_size
    if rows == default > (images if most is None else most):
        return max(batch, images // 2)
    if rows > images:
        store = f"the store of {plural(images, 'image')}"
        message = f"a queue of {plural(rows, 'row')} is larger than {store}; take at most {images:,}"
        raise UserError(f"{message} (half of it, {images // 2:,}, is a good start)", code="queue-too-large")
    if rows < batch:
        message = f"a queue of {plural(rows, 'row')} is smaller than a batch of {batch:,}; take at least {batch:,}"
        raise UserError(message, code="queue-too-small")
    return rows


@dataclass(frozen=True, kw_only=True)
class QueueConfig(EMAConfig):
    """Configuration of a host with an EMA encoder and a queue of its embeddings."""

    head_bias: ClassVar[bool] = True
    views: str = "mocov2"
    """Preset of augmentations (docs/data.md); the last view goes to the EMA encoder."""
    queue_size: int = 65536
    """Rows of the queue, the newest of all processes; by default at most half of a smaller store."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    ema_momentum: float = 0.999
    """Momentum of the EMA encoder."""
    ema_schedule: Literal["cosine", "constant"] = "constant"
    """Raise the momentum to 1 over the run along a half-cosine, or keep it."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with a queue that suits the store and the batch."""
        return replace(self, queue_size=resolve_queue_size(self.queue_size, type(self).queue_size, context))
