"""Options of SwAV, with their defaults and what they are resolved to."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from limbeck.methods.config.base import (
    LocalCropsConfig,
    MethodCard,
    check_prototypes,
    resolve_freeze_steps,
    resolve_queue_size,
)

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.swav import SwAV


@dataclass(frozen=True, kw_only=True)
class SwAVConfig(LocalCropsConfig):
    """SwAV: cluster while learning, from two large crops and many small ones; no negatives, no EMA encoder."""

    name: ClassVar[str] = "swav"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict the cluster of a large crop from the other crops",
        state="- (a queue for small batches)",
        use_when="convolutional networks, and time for local crops but not for large batches",
        cost=4.8,
    )
    head_bias: ClassVar[bool] = True
    views: str = "multicrop"
    """Preset of augmentations (docs/data.md); the first two views are assigned to prototypes, all views predict."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the hidden layer of the projector."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    num_prototypes: int = 3000
    """Prototypes, at least 2; about three times the classes that you expect is plenty."""
    freeze_steps: int | None = None
    """Optimizer steps at the start during which the prototypes are frozen; None: the first epoch, at most a tenth of
    the run."""
    temperature: float = 0.1
    """Divides the cosines of the prediction."""
    epsilon: float = 0.05
    """Smoothness of the assignment, in units of the cosine; lower it where the loss stays at log(num_prototypes)."""
    sinkhorn_iterations: int = 3
    """Iterations of Sinkhorn's algorithm."""
    queue_size: int = 0
    """Rows of earlier batches that are assigned together with the batch, once there are so many; 0: no queue."""
    queue_delay_steps: int = 0
    """Optimizer steps before the queue begins to fill."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with the frozen steps; UserError for prototypes or a queue that do not fit."""
        check_prototypes(self.num_prototypes, type(self).num_prototypes)
        if self.queue_size:
            resolve_queue_size(self.queue_size, type(self).queue_size, context)
        return replace(self, freeze_steps=resolve_freeze_steps(self.freeze_steps, context))

    def build(self, backbone: "Encoder") -> "SwAV":
        """Build SwAV with a new head and new prototypes around `backbone`."""
        from limbeck.methods.swav import SwAV

        return SwAV(backbone, self)
