"""Options of CGH, with their defaults and what they are resolved to."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from limbeck.core.errors import UserError
from limbeck.methods.config.base import MethodCard, MethodConfig, resolve_queue_size

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.cgh import CGH


@dataclass(frozen=True, kw_only=True)
class CGHConfig(MethodConfig):
    """CGH: global vector and hypercolumn learn from each other, which brings in local detail; for CNNs."""

    name: ClassVar[str] = "cgh"
    card: ClassVar[MethodCard] = MethodCard(
        summary="match the EMA encoder's similarity distributions between a global vector and a hypercolumn",
        state="EMA encoder, two queues",
        use_when="CNNs with features that keep local detail, with small batches",
        cost=2.3,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 6)
    only_on: ClassVar[tuple[str, str] | None] = ("images", "its hypercolumn resizes feature maps as images")
    not_a_host_reason: ClassVar[str] = "its global vector learns from its own hypercolumn"
    views: str = "ressl"
    """Preset of augmentations (docs/data.md); the last view goes to the EMA encoder, the first one to the student, and
    of any between them the student computes the global vector alone."""
    dim: int = 512
    """Width of both embeddings."""
    hidden: int = 4096
    """Width of the hidden layers of both projectors."""
    queue_size: int = 131072
    """Rows of each queue, the newest of all processes; by default at most half of a smaller store."""
    hypercolumn_layers: tuple[int, ...] = (-2, -1)
    """Blocks or stages of the hypercolumn, from 1, or from -1 backwards."""
    ema_momentum: float = 0.999
    """Momentum of the EMA encoder."""
    warmup_fraction: float = 0.025
    """Fraction of the run over which InfoNCE gives way to the relations (5 of 200 epochs)."""
    temperature: float = 0.1
    """Divides the cosines of the student's global vector."""
    target_temperature: float = 0.04
    """Divides the cosines of the EMA encoder's global vector."""
    hyper_temperature: float = 0.08
    """Divides the cosines of the student's hypercolumn."""
    hyper_target_temperature: float = 0.08
    """Divides the cosines of the EMA encoder's hypercolumn."""
    contrast_temperature: float = 0.2
    """Divides the cosines in InfoNCE."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with queues that suit the store and the batch."""
        return replace(self, queue_size=resolve_queue_size(self.queue_size, type(self).queue_size, context))

    def build(self, backbone: "Encoder") -> "CGH":
        """Build CGH with new heads around `backbone`; UserError for hypercolumn layers that it does not have."""
        from limbeck.methods.cgh import CGH

        return CGH(backbone, self)

    def check_depths(self, depths: tuple[int, ...]) -> None:
        """Raise UserError for layers of the hypercolumn that the encoder does not have."""
        self.taps(depths)

    def taps(self, depths: tuple[int, ...]) -> tuple[int, ...]:
        """Return the layers of the hypercolumn of an encoder of these depths, counted from 1, ascending."""
        depth = depths[-1]
        taps = {layer if layer > 0 else depth + 1 + layer for layer in self.hypercolumn_layers}
        if not taps or not taps <= {*depths}:
            raise UserError(
                f"hypercolumn_layers {self.hypercolumn_layers} are not all in the network: choose depths from 1 to "
                f"{depth}, or from -{depth} to -1",
                code="depth-out-of-range",
            )
        return tuple(sorted(taps))
