"""W-MSE: views of an image agree after each view's embeddings were whitened, so nothing can collapse.

Ermolov, Siarohin, Sangineto, Sebe, *Whitening for Self-Supervised Representation Learning*, ICML 2021; authors' code
htdt/self-supervised d9662c8, whose CIFAR settings are the defaults.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.core.distributed import broadcast_from_rank0, gather
from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.core.types import Batch, Encoder, Features
from limbeck.losses.whitening import w_mse, whiten
from limbeck.methods.base import Host, HostOutput
from limbeck.methods.config.wmse import SHRINKAGE, WMSEConfig


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
        return HostOutput((features,), (z,), (gather(z).unflatten(0, (len(batch.views), -1)),), {})

    def pair_loss(self, queries: Float[Tensor, "rows D"], targets: Float[Tensor, "V images D"]) -> Float[Tensor, ""]:
        """Compare whitened queries with whitened targets of all processes."""
        return self._compare(gather(queries).unflatten(0, targets.shape[:2]), targets)

    def loss(self, output: HostOutput) -> Float[Tensor, ""]:
        """Compute W-MSE: the rows, of which every process has all, are their own targets."""
        (rows,) = output.targets
        return self._compare(rows, rows)

    @property
    def nonfinite_hint(self) -> str:
        """What to try when the loss is not finite, also where a covariance has no Cholesky factor."""
        slices = f"slices of {plural(self.whitening_size or 0, 'image')} in {plural(self.cfg.dim, 'column')}"
        return (
            f"lower the learning rate or clip; if the whitening of {slices} failed first, the features have collapsed "
            f"or the slices are too small, which a larger whitening_size or shrinkage {SHRINKAGE} fixes"
        )

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
