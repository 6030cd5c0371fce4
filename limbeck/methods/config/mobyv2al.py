"""Options of MoBYv2AL, with their defaults and what they are resolved to."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from limbeck.methods.config.base import MethodCard, SupervisedConfig, resolve_queue_size
from limbeck.methods.config.moby import MoBYConfig

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.mobyv2al import MoBYv2AL


@dataclass(frozen=True, kw_only=True)
class MoBYv2ALConfig(SupervisedConfig):
    """MoBYv2AL (supervised): a classifier of the images with labels, and MoBY on all; what `limbeck select` trains."""

    name: ClassVar[str] = "mobyv2al"
    card: ClassVar[MethodCard] = MethodCard(
        summary="classify the images with labels, and predict the EMA encoder's embedding of the other view of all",
        state="EMA encoder, two queues",
        use_when="through `limbeck select --strategy moby`: few labels, and more to be chosen",
        cost=2.4,
    )
    not_a_host_reason: ClassVar[str] = "a part of its targets are labels, not another view"

    views: str = "mobyv2al"
    """Preset of augmentations (docs/data.md): a strong view, and a weak one, which is classified."""
    contrast_weight: float = 0.5
    """Weight of MoBY's loss, where that of the labels is 1."""
    dim: int = 128
    """Width of the embedding."""
    queue_size: int = 4096
    """Rows of each of the two queues, the newest of all processes; by default at most half of a smaller store."""
    temperature: float = 0.2
    """Divides the cosines."""
    ema_momentum: float = 0.99
    """Momentum of the EMA encoder at the start."""
    ema_schedule: Literal["cosine", "constant"] = "cosine"
    """Raise the momentum to 1 over the run along a half-cosine, or keep it."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with classes and queue; UserError if labels are missing."""
        self.check_classes(context.num_classes)
        queue_size = resolve_queue_size(self.queue_size, type(self).queue_size, context)
        return replace(self, num_classes=context.num_classes, queue_size=queue_size)

    @property
    def host(self) -> MoBYConfig:
        """The options of the part that needs no labels."""
        return MoBYConfig(
            dim=self.dim,
            queue_size=self.queue_size,
            temperature=self.temperature,
            ema_momentum=self.ema_momentum,
            ema_schedule=self.ema_schedule,
        )

    def build(self, backbone: "Encoder") -> "MoBYv2AL":
        """Build MoBYv2AL with new heads around `backbone`; needs a resolved configuration."""
        from limbeck.methods.mobyv2al import MoBYv2AL

        return MoBYv2AL(backbone, self)
