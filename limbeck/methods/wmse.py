"""W-MSE: views of an image agree after each view's embeddings were whitened, so nothing can collapse.

Ermolov, Siarohin, Sangineto, Sebe, *Whitening for Self-Supervised Representation Learning*, ICML 2021; authors' code
htdt/self-supervised d9662c8, whose CIFAR settings are the defaults.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.core.distributed import broadcast_from_rank0, gather
from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, Encoder, Features
from limbeck.losses.whitening import w_mse, whiten
from limbeck.methods.base import Host, HostOutput, MethodCard, MultiViewConfig

SHRINKAGE = 0.01  # what messages suggest: well above rounding, well below the variance of a new head (about 0.2)


@dataclass(frozen=True, kw_only=True)
class WMSEConfig(MultiViewConfig):
    """W-MSE: whiten slices of the batch instead of contrasting; no negatives, no EMA encoder, no queue."""

    name: ClassVar[str] = "wmse"
    card: ClassVar[MethodCard] = MethodCard(
        summary="align the views of an image after whitening each view's embeddings",
        state="-",
        use_when="more than two views of an image, little memory, batches of 256 or more",
        cost=2.0,
    )
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

    def resolve(self, context: DataContext) -> Self:
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

    def build(self, backbone: Encoder) -> "WMSE":
        """Build W-MSE with a new head around `backbone`."""
        return WMSE(backbone, self)

    def _choose(self, context: DataContext) -> int:
        """Return the smallest divisor of the images of a forward pass that is at least 2 x dim, or all of them."""
        images, enough = context.forward_batch_size, 2 * self.dim
        return next((size for size in range(enough, images + 1) if images % size == 0), images)

    def _check_covariance(self, size: int, context: DataContext) -> None:
        if size >= 2 * self.dim or self.shrinkage:
            return
        state = "singular" if size <= self.dim else "nearly singular"
        batch = 2 * self.dim * (context.batch_size // context.forward_batch_size)
        message = f"a slice of {size} images (whitening_size) has a {state} covariance of {self.dim} columns (dim)"
        remedy = f"take whitening_size {2 * self.dim} and a batch of {batch} or more, dim {size // 2} or less"
        raise UserError(f"{message}; {remedy}, or shrinkage {SHRINKAGE}", code="whitening-size-too-small")

    def _check_slices(self, size: int, context: DataContext) -> None:
        images, micro = context.forward_batch_size, context.batch_size // context.forward_batch_size
        if images % size:
            slices = max(1, min(round(images / size), context.num_images // micro // size))
            message = f"slices of {size} images (whitening_size) do not divide the {images} of a forward pass"
            remedy = f"take a batch of {slices * size * micro}, or leave whitening_size out"
            raise UserError(f"{message}; {remedy}", code="slices-do-not-divide-the-batch")
        if self.whitening_repeats > 1 and size == images:
            message = f"all {images} images are one slice: whitening_repeats {self.whitening_repeats} repeats one loss"
            remedy = f"take whitening_repeats 1 or a batch of {2 * context.batch_size}"
            raise UserError(f"{message}; {remedy}", code="too-many-whitening-repeats")


class WMSE(Host):
    """The mean distance of whitened views, over all pairs of views.

    As a host it whitens the queries of another layer and the targets with the same slices, and compares view i of one
    with views j != i of the other; for the host's own rows that is W-MSE. The authors have no such use; it is an
    addition of Limbeck.
    """

    cfg: WMSEConfig

    def __init__(self, backbone: Encoder, cfg: WMSEConfig) -> None:
        super().__init__(backbone, cfg)
        self.whitening_size = 2 * cfg.dim if cfg.whitening_size is None else cfg.whitening_size

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """Run the backbone, with its BatchNorms, one view at a time, and the head on all rows; they are view-major."""
        parts = [self.backbone(view, taps) for view in batch.views]
        final = torch.cat([features.final for features in parts])
        features = Features(final, {tap: torch.cat([f.taps[tap] for f in parts]) for tap in taps}, {})
        z = self.head.project(final)
        return HostOutput((features,), (z,), (self._gather(z),), {})

    def pair_loss(self, queries: Float[Tensor, "rows D"], targets: Float[Tensor, "V images D"]) -> Float[Tensor, ""]:
        """Compare whitened queries with whitened targets of all processes."""
        return self._compare(self._gather(queries), targets)

    def loss(self, output: HostOutput) -> Float[Tensor, ""]:
        """Compute W-MSE: the rows, of which every process has all, are their own targets."""
        (rows,) = output.targets
        return self._compare(rows, rows)

    @property
    def nonfinite_hint(self) -> str:
        """What to try when the loss is not finite, also where a covariance has no Cholesky factor."""
        slices = f"slices of {self.whitening_size} images in {self.cfg.dim} columns"
        return (
            f"lower the learning rate or clip; if the whitening of {slices} failed first, the features have collapsed "
            f"or the slices are too small, which a larger whitening_size or shrinkage {SHRINKAGE} fixes"
        )

    def _gather(self, z: Float[Tensor, "rows D"]) -> Float[Tensor, "V images D"]:
        """Gather the view-major rows of all processes, with their gradient."""
        return gather(z).unflatten(0, (self.cfg.num_views, -1))

    def _compare(self, queries: Float[Tensor, "V images D"], targets: Float[Tensor, "V images D"]) -> Float[Tensor, ""]:
        orders = self._orders(queries)
        whitened = self._whiten(queries, orders)
        others = whitened if targets is queries else self._whiten(targets, orders)
        return w_mse(whitened, others, self.cfg.euclidean)

    def _orders(self, rows: Float[Tensor, "V images D"]) -> Int[Tensor, "repeats images"]:
        """Draw orders of the images, to be cut into slices, equal on all processes; one slice needs no order."""
        images = rows.shape[1]
        if images % self.whitening_size:
            message = f"slices of {self.whitening_size} images (whitening_size) do not divide a batch of {images}"
            raise UserError(f"{message}; choose another size", code="slices-do-not-divide-the-batch")
        if images == self.whitening_size:
            return torch.arange(images, device=rows.device)[None]
        return broadcast_from_rank0(torch.rand(self.cfg.whitening_repeats, images, device=rows.device).argsort(1))

    def _whiten(
        self, rows: Float[Tensor, "V images D"], orders: Int[Tensor, "repeats images"]
    ) -> Float[Tensor, "V repeats*images D"]:
        """Whiten all slices of all views and orders at once; the result is in the order of `orders`."""
        slices = rows.index_select(1, orders.flatten()).unflatten(1, (-1, self.whitening_size))
        return whiten(slices, self.cfg.shrinkage).flatten(1, 2)
