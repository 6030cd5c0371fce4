"""W-MSE: views of an image agree once each view's embedding has been whitened, so nothing can collapse.

Ermolov, Siarohin, Sangineto, Sebe, *Whitening for Self-Supervised Representation Learning*, ICML 2021; authors' code
htdt/self-supervised d9662c8, whose CIFAR settings are the defaults.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from limbeck.core.distributed import broadcast_from_rank0, gather, world_size
from limbeck.core.errors import UserError
from limbeck.core.types import Batch, DataContext, Encoder, Features
from limbeck.losses.whitening import w_mse, whiten
from limbeck.methods.base import Host, HostOutput, MethodCard, PositivesConfig

SHRINKAGE = 0.01  # what error messages offer: well above rounding, well below the variance of a fresh head (about 0.2)


@dataclass(frozen=True, kw_only=True)
class WMSEConfig(PositivesConfig):
    """Whitens slices of the batch instead of contrasting; neither negatives nor teacher nor queue."""

    name: ClassVar[str] = "wmse"
    card: ClassVar[MethodCard] = MethodCard(
        summary="embeddings of an image's views agree after each view was whitened",
        state="nothing",
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
    """Images of a slice, which is whitened by itself; by default 2 x dim, or the next size that divides the images of
    all processes."""
    whitening_repeats: int = 1
    """Random ways to slice a batch, whose losses are averaged."""
    eps: float = 0.0
    """Shrinkage of the covariance towards the identity; for slices below 2 x dim."""
    euclidean: bool = False
    """Compare whitened rows as they are, not their unit vectors."""

    def resolve(self, context: DataContext) -> Self:
        """With the size of a slice; UserError for one that cannot be whitened or does not divide the batch."""
        super().resolve(context)
        if self.whitening_repeats < 1:
            raise UserError(f"whitening_repeats is {self.whitening_repeats}: take at least 1 way to slice")
        if not 0 <= self.eps < 1:
            raise UserError(f"eps is {self.eps}, a share of the covariance: take 0, or {SHRINKAGE} for small slices")
        fitted = replace(
            self, whitening_size=self._choose(context) if self.whitening_size is None else self.whitening_size
        )
        fitted._check(context)
        return fitted

    def build(self, backbone: Encoder) -> "WMSE":
        """W-MSE with a fresh head around `backbone`."""
        return WMSE(backbone, self)

    def _choose(self, context: DataContext) -> int:
        """The smallest divisor of the images seen together that is 2 x dim or more; all of them, if they are fewer."""
        rows, enough = context.forward_batch_size, 2 * self.dim
        return next((size for size in range(enough, rows + 1) if rows % size == 0), rows)

    def _check(self, context: DataContext) -> None:
        assert self.whitening_size is not None
        rows, micro = context.forward_batch_size, context.batch_size // context.forward_batch_size
        if self.whitening_size < 2 * self.dim and self.eps == 0:
            state = "singular" if self.whitening_size <= self.dim else "nearly singular"
            raise UserError(
                f"a slice of {self.whitening_size} images (whitening_size) has a {state} covariance of {self.dim} columns (dim); take "
                f"whitening_size {2 * self.dim} and a batch of {2 * self.dim * micro} or more, dim {self.whitening_size // 2} or less, "
                f"or eps {SHRINKAGE}"
            )
        if rows % self.whitening_size:
            good = (
                max(1, min(round(rows / self.whitening_size), context.num_images // micro // self.whitening_size))
                * self.whitening_size
                * micro
            )
            raise UserError(
                f"slices of {self.whitening_size} images (whitening_size) do not divide the {rows} that are seen together; "
                f"take a batch of {good}, or leave whitening_size out"
            )
        if self.whitening_repeats > 1 and self.whitening_size == rows:
            raise UserError(
                f"all {rows} images are one slice, so whitening_repeats {self.whitening_repeats} would repeat the same loss; "
                f"take whitening_repeats 1 or a batch of {2 * context.batch_size}"
            )


class WMSE(Host):
    """The mean distance of whitened views, over all pairs of views.

    As a host it whitens the queries of another layer and the targets with the same slices, and compares view i of the
    one with views j != i of the other; for its own rows that is W-MSE. The authors have no such use; it is ours.
    """

    cfg: WMSEConfig

    def __init__(self, backbone: Encoder, cfg: WMSEConfig) -> None:
        super().__init__(backbone, cfg)
        self.whitening_size = 2 * cfg.dim if cfg.whitening_size is None else cfg.whitening_size

    def encode(self, batch: Batch, taps: tuple[int, ...] = ()) -> HostOutput:
        """The network, with its BatchNorms, sees one view at a time, the head all of them; rows are view-major."""
        seen = [self.backbone(view, taps) for view in batch.views]
        final = torch.cat([features.final for features in seen])
        features = Features(final, {tap: torch.cat([f.taps[tap] for f in seen]) for tap in taps}, {})
        z = self.head.project(final)
        return HostOutput((features,), (z,), (self._gather(z),), {})

    def pair_loss(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Whitened queries, [d*B D], beside whitened targets, [d W*B D]."""
        return self._compare(self._gather(queries), targets)

    def loss(self, step: HostOutput) -> Tensor:
        """W-MSE: the rows, which every process has whole, are their own targets."""
        (rows,) = step.targets
        return self._compare(rows, rows)

    def nonfinite_hint(self) -> str:
        """Also what it means that a covariance had no factor, where that came first."""
        return (
            f"lower the learning rate or clip; if it was the whitening of slices of {self.whitening_size} images in "
            f"{self.cfg.dim} columns that failed, the features have collapsed or the slices are too small, which a "
            f"larger whitening_size or eps {SHRINKAGE} mends"
        )

    def _gather(self, z: Tensor) -> Tensor:
        """View-major rows of this process, [d*B D], to those of all, [d W*B D], with their gradient."""
        views = self.cfg.positives
        return gather(z).unflatten(0, (world_size(), views, -1)).transpose(0, 1).flatten(1, 2)

    def _compare(self, queries: Tensor, targets: Tensor) -> Tensor:
        orders = self._orders(queries)
        whitened = self._whiten(queries, orders)
        others = whitened if targets is queries else self._whiten(targets, orders)
        return w_mse(whitened, others, self.cfg.euclidean)

    def _orders(self, rows: Tensor) -> Tensor:
        """Ways to slice the images, [whitening_repeats B], the same on all processes; one slice needs no order."""
        images = rows.shape[1]
        if images % self.whitening_size:
            raise UserError(
                f"slices of {self.whitening_size} images (whitening_size) do not divide a batch of {images}; choose another"
            )
        if images == self.whitening_size:
            return torch.arange(images, device=rows.device)[None]
        return broadcast_from_rank0(torch.rand(self.cfg.whitening_repeats, images, device=rows.device).argsort(1))

    def _whiten(self, rows: Tensor, orders: Tensor) -> Tensor:
        """All slices of all views and orders at once: [d B D] -> [d whitening_repeats*B D], in the order of `orders`."""
        slices = rows.index_select(1, orders.flatten()).unflatten(1, (-1, self.whitening_size))
        return whiten(slices, self.cfg.eps).flatten(1, 2)
