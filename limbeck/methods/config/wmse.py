"""Options of W-MSE, with their defaults and what they are resolved to."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.methods.config.base import LocalCropsConfig, MethodCard, MultiViewConfig

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.methods.wmse import WMSE

SHRINKAGE = 0.01  # what messages suggest: well above rounding, well below the variance of a new head (about 0.2)


@dataclass(frozen=True, kw_only=True)
class WMSEConfig(LocalCropsConfig, MultiViewConfig):
    """W-MSE: whiten slices of the batch instead of contrasting; no negatives, no EMA encoder, no queue."""

    name: ClassVar[str] = "wmse"
    card: ClassVar[MethodCard] = MethodCard(
        summary="align the views of an image after whitening each view's embeddings",
        state="-",
        use_when="more than two views of an image, little memory, batches of 256 or more",
        cost=2.0,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 2)
    head_bias: ClassVar[bool] = True

    views: str = "wmse"
    """Preset of augmentations (docs/data.md)."""
    dim: int = 64
    """Width of the embedding."""
    hidden: int = 1024
    """Width of the hidden layers of the projector."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift; whitening makes it superfluous."""
    whitening_size: int | None = None
    """Images of a slice, which is whitened by itself; None: 2 x dim, or the next size that divides the images of all
    processes."""
    whitening_repeats: int = 1
    """Random partitions of a batch into slices, whose losses are averaged."""
    shrinkage: float = 0.0
    """Shrinkage of the covariance towards the identity; for slices below 2 x dim."""
    euclidean: bool = False
    """Compare whitened rows as they are, not their unit vectors."""

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with the size of a slice; UserError for one that cannot be whitened."""
        super().resolve(context)
        if self.whitening_repeats < 1:
            message = f"whitening_repeats is {self.whitening_repeats}: take at least 1"
            raise UserError(message, code="too-few-whitening-repeats")
        if not 0 <= self.shrinkage < 1:
            message = f"shrinkage is {self.shrinkage}: take 0, or {SHRINKAGE} for small slices"
            raise UserError(message, code="shrinkage-out-of-range")
        size = self._choose(context) if self.whitening_size is None else self.whitening_size
        self._check_covariance(size, context)
        self._check_slices(size, context)
        return replace(self, whitening_size=size)

    def build(self, backbone: "Encoder") -> "WMSE":
        """Build W-MSE with a new head around `backbone`."""
        from limbeck.methods.wmse import WMSE

        return WMSE(backbone, self)

    def _choose(self, context: "DataContext") -> int:
        """Return the smallest divisor of the images of a forward pass that is at least 2 x dim, or all of them."""
        images, enough = context.forward_batch_size, 2 * self.dim
        return next((size for size in range(enough, images + 1) if images % size == 0), images)

    def _check_covariance(self, size: int, context: "DataContext") -> None:
        if size >= 2 * self.dim or self.shrinkage:
            return
        state = "singular" if size <= self.dim else "nearly singular"
        batch = 2 * self.dim * (context.batch_size // context.forward_batch_size)
        message = (
            f"a slice of {plural(size, 'image')} (whitening_size) has a {state} covariance of {self.dim} columns (dim)"
        )
        remedy = f"take whitening_size {2 * self.dim} and a batch of {batch} or more, dim {size // 2} or less"
        raise UserError(f"{message}; {remedy}, or shrinkage {SHRINKAGE}", code="whitening-size-too-small")

    def _check_slices(self, size: int, context: "DataContext") -> None:
        images, micro = context.forward_batch_size, context.batch_size // context.forward_batch_size
        if images % size:
            slices = max(1, min(round(images / size), context.num_images // micro // size))
            message = f"slices of {plural(size, 'image')} (whitening_size) do not divide the {images} of a forward pass"
            remedy = f"take a batch of {slices * size * micro}, or leave whitening_size out"
            raise UserError(f"{message}; {remedy}", code="slices-do-not-divide-the-batch")
        if self.whitening_repeats > 1 and size == images:
            message = f"all {images} images are one slice: whitening_repeats {self.whitening_repeats} repeats one loss"
            remedy = f"take whitening_repeats 1 or a batch of {2 * context.batch_size}"
            raise UserError(f"{message}; {remedy}", code="too-many-whitening-repeats")
