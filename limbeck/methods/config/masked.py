"""Options of masked self-distillation, with their defaults."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from limbeck.core.errors import UserError
from limbeck.data.augment.span_mask import SpanMask
from limbeck.methods.config.base import MethodCard, MethodConfig

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.masked import Masked


@dataclass(frozen=True, kw_only=True)
class MaskedConfig(MethodConfig):
    """Masked self-distillation: data2vec on series; no pairs of views, and batches of a few series."""

    name: ClassVar[str] = "masked"
    card: ClassVar[MethodCard] = MethodCard(
        summary="predict the EMA encoder's features of the whole series at the steps that are hidden",
        state="EMA encoder",
        use_when="time series: the default there, with small batches and without augmentations",
        cost=1.5,
    )
    view_count: ClassVar[tuple[int, int]] = (1, 1)
    only_on: ClassVar[tuple[str, str] | None] = ("series", "it hides time steps")
    not_a_host_reason: ClassVar[str] = "its targets are of every time step"
    views: str = "supervised"
    """Preset of one view; of series, whole ones unless another preset is named."""
    mask_share: float = 0.5
    """Steps of all hidden spans as a share of the series; spans overlap, so that 1 - exp(-share) is hidden."""
    mask_span: int | None = None
    """Steps of a span; by default a twelfth of the longest series, from 2 to 10."""
    target_blocks: int = 3
    """Last blocks, but for the output block, whose features are averaged to targets."""
    target_of: Literal["block", "branch"] = "block"
    """Take the features of a block behind its residual sum, or before it (fairseq's choice for audio)."""
    target_norm: Literal["instance", "layer", "none"] = "instance"
    """Normalize the features of a block over the steps of each series, over channels, or not."""
    mean_norm: bool = True
    """Normalize the average over channels as well."""
    beta: float = 0.0
    """Width of the quadratic part of the smooth L1 distance; 0 is the squared distance."""
    ema_momentum: float = 0.99
    """Momentum of the EMA encoder at the start."""
    ema_end: float = 0.9995
    """Momentum that it reaches on a straight line."""
    ema_fraction: float = 0.5
    """Fraction of the run after which it is reached."""
    evaluate_ema: bool = False
    """Save the EMA encoder as the encoder of the run, and not the trained network."""

    @property
    def span_mask(self) -> SpanMask:
        """The spans that are hidden."""
        return SpanMask(share=self.mask_share, span=self.mask_span)

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration; UserError for shares or counts that make no sense."""
        if not 0 < self.mask_share <= 4:
            message = f"mask_share is {self.mask_share:g}: it must be above 0 and at most 4, where 2 % stay visible"
            raise UserError(message, code="out-of-range")
        if self.mask_span is not None and self.mask_span < 1:
            raise UserError(f"mask_span is {self.mask_span}: a span has at least 1 step", code="out-of-range")
        if self.target_blocks < 1:
            raise UserError(f"target_blocks is {self.target_blocks}: take at least 1", code="out-of-range")
        return self

    def momentum(self, progress: float) -> float:
        """Return the momentum of the EMA encoder at a fraction of the run."""
        rest = max(0.0, 1 - progress / self.ema_fraction) if self.ema_fraction else 0.0
        return self.ema_end - (self.ema_end - self.ema_momentum) * rest

    def check_depths(self, depths: tuple[int, ...]) -> None:
        """Raise UserError for an encoder with too few blocks below its output block."""
        if self.target_blocks >= depths[-1]:
            raise UserError(
                f"target_blocks is {self.target_blocks} and the network has {depths[-1]} blocks, of which the last is "
                f"no target: choose at most {depths[-1] - 1}, or a deeper network",
                code="depth-out-of-range",
            )

    def build(self, backbone: "Encoder") -> "Masked":
        """Build the method with a new mask token and head around `backbone`, which has tokens."""
        from limbeck.core.types import TokenEncoder
        from limbeck.methods.masked import Masked

        if not isinstance(backbone, TokenEncoder):
            raise UserError(
                f"method '{self.name}' hides time steps, and '{backbone.cfg.name}' has none: take a network for series",
                code="method-not-for-data",
            )
        self.check_depths(backbone.taps)
        return Masked(backbone, self)
