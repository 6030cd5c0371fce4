"""Whitening of embeddings, and the distance of whitened views: the loss of W-MSE.

Ermolov, Siarohin, Sangineto, Sebe, *Whitening for Self-Supervised Representation Learning*, ICML 2021; values and
gradients are those of the authors' code (htdt/self-supervised d9662c8). The backward pass is derived by hand.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.losses.precision import exact_products, full_precision


@full_precision
def whiten(x: Float[Tensor, "*slices B D"], shrinkage: float = 0.0) -> Float[Tensor, "*slices B D"]:
    """Return each slice of samples with mean 0 and, if `shrinkage` is 0, unit covariance.

    With S the unbiased covariance of a slice and L L' = (1 - shrinkage) S + shrinkage I (Cholesky), a row becomes
    L^-1 (x - mean). This is Gram-Schmidt over the columns: their order matters, and the order of the rows does not.

    Args:
        x: B samples of width D in each slice. B is at least D + 1 unless `shrinkage` is above 0; at 2 D the covariance
            is no longer nearly singular.
        shrinkage: share of the identity in the covariance, in [0, 1).

    Returns:
        the whitened slices. A slice is NaN if its covariance has no Cholesky factor (B too small, or columns that
        depend on each other); an error would have to wait for the GPU.
    """
    slices: Tensor = _Whiten.apply(x.reshape(-1, *x.shape[-2:]), shrinkage)
    return slices.view(x.shape)


class _Whiten(torch.autograd.Function):
    """Whiten slices [S B D]."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "S B D"], shrinkage: float) -> Float[Tensor, "S B D"]:
        _, rows, columns = x.shape
        with exact_products(x.device):
            centered = x - x.mean(1, keepdim=True)
            identity = torch.eye(columns, dtype=x.dtype, device=x.device)
            scale = (1 - shrinkage) / (rows - 1)
            covariance = torch.baddbmm(identity, centered.mT, centered, beta=shrinkage, alpha=scale)
            factor, failed = torch.linalg.cholesky_ex(covariance)
            factor = factor.masked_fill(failed[:, None, None] > 0, torch.nan)
            inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
            z = centered @ inverse.mT
        ctx.save_for_backward(z, inverse)
        ctx.scale = scale
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, "S B D"]) -> tuple[Float[Tensor, "S B D"], None]:
        """Return (G - scale * Z K) L^-1 minus its column means; K is the mirrored lower triangle of G'Z."""
        z, inverse = ctx.saved_tensors
        with exact_products(z.device):
            lower = (grad.mT @ z).tril_()
            mirrored = lower + lower.tril(-1).mT
            inner = torch.baddbmm(grad, z, mirrored, alpha=-ctx.scale) @ inverse
            return inner.sub_(inner.mean(1, keepdim=True)), None


@full_precision
def w_mse(
    queries: Float[Tensor, "V B D"], targets: Float[Tensor, "V B D"], euclidean: bool = False
) -> Float[Tensor, ""]:
    """Return the mean squared distance of view i of the queries and view j of the targets, over rows and pairs i != j.

    Args:
        queries: whitened, of at least 2 views.
        targets: of the same images; in W-MSE the queries themselves, so that pairs count twice.
        euclidean: compare the rows as they are, and divide by D; otherwise their unit vectors, which is 2 - 2 cos.

    The cost is O(V) instead of O(V^2), because sums over views suffice.

    Source: W-MSE (Ermolov et al. 2021), `norm_mse_loss` and `mse_loss` of the authors' code.
    """
    views, rows, width = queries.shape
    if not euclidean:
        same = targets is queries
        queries = F.normalize(queries, dim=2)
        targets = queries if same else F.normalize(targets, dim=2)
    pairs = views * (views - 1) * rows
    products = (_dot(queries.sum(0), targets.sum(0)) - _dot(queries, targets)) / pairs
    if not euclidean:
        return 2 - 2 * products
    squares = (_dot(queries, queries) + _dot(targets, targets)) / (views * rows)
    return (squares - 2 * products) / width


def _dot(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    return torch.dot(a.flatten(), b.flatten())
