"""Options of CoNe, with their defaults and what they are resolved to."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from limbeck.core.errors import UserError
from limbeck.methods.config.base import MethodCard, SupervisedConfig, resolve_queue_size

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.cone import CoNe


@dataclass(frozen=True, kw_only=True)
class CoNeConfig(SupervisedConfig):
    """CoNe (supervised): the labels of the store, and neighbors that should be of the same class."""

    name: ClassVar[str] = "cone"
    card: ClassVar[MethodCard] = MethodCard(
        summary="classify, in agreement with the nearest neighbors in a queue (supervised)",
        state="EMA encoder, queue",
        use_when="every image has a label: an upper bound for the other methods",
        cost=1.2,
    )
    view_count: ClassVar[tuple[int, int]] = (1, 1)
    not_a_host_reason: ClassVar[str] = "its targets are labels, not another view"

    views: str = "supervised"
    """Preset of augmentations (docs/data.md), of one view."""
    dim: int = 256
    """Width of the embedding."""
    hidden: int = 4096
    """Width of the projector's hidden layer."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    queue_size: int = 65536
    """Rows of the queue, the newest of all processes; by default at most half of a smaller store."""
    num_neighbors: int = 512
    """Most similar rows of the queue that an image is compared with."""
    temperature: float = 0.1
    """Divides the cosines with the neighbors."""
    vote_temperature: float = 0.07
    """Divides the cosines that weight the votes of the queue."""
    contrast_weight: float = 0.7
    """Weight of the contrast with the neighbors."""
    consistency_weight: float = 0.4
    """Weight of the consistency with the votes."""
    label_smoothing: float = 0.0
    """Share of a label that is spread over the other classes."""
    warmup_steps: int | None = None
    """Optimizer steps with the cross-entropy alone, while the queue fills; None: an epoch, at most a tenth of the
    run."""
    ema_momentum: float = 0.996
    """Momentum of the EMA encoder at the start; it rises to 1 over the run along a half-cosine."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with classes, queue and warm-up; UserError if labels are missing or do not fit."""
        self.check_classes(context.num_classes)
        queue_size = resolve_queue_size(self.queue_size, type(self).queue_size, context)
        if not 1 <= self.num_neighbors <= queue_size:
            message = f"num_neighbors is {self.num_neighbors}: take 1 to {queue_size:,}, the rows of the queue"
            raise UserError(message, code="num-neighbors-out-of-range")
        warmup = context.max_initial_steps if self.warmup_steps is None else self.warmup_steps
        return replace(self, num_classes=context.num_classes, queue_size=queue_size, warmup_steps=warmup)

    def check_classes(self, num_classes: int) -> None:
        """Raise UserError also if the labels are smoothed to less than those of the other classes."""
        super().check_classes(num_classes)
        if not 0 <= self.label_smoothing <= 1 - 1 / num_classes:
            message = f"label_smoothing is {self.label_smoothing}: take 0 to {1 - 1 / num_classes:.3g}"
            raise UserError(message, code="label-smoothing-out-of-range")

    def build(self, backbone: "Encoder") -> "CoNe":
        """Build CoNe with new heads around `backbone`; needs a resolved configuration."""
        from limbeck.methods.cone import CoNe

        return CoNe(backbone, self)
