"""Whitening of an embedding, and the distance of whitened views: the loss of W-MSE.

Ermolov, Siarohin, Sangineto, Sebe, *Whitening for Self-Supervised Representation Learning*, ICML 2021; values and
gradients are those of the authors' code (htdt/self-supervised d9662c8). The backward pass is derived by hand.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.losses.precision import exact_products, full_precision


@full_precision
def whiten(x: Tensor, eps: float = 0.0) -> Tensor:
    """Slices of samples with mean 0 and, if `eps` is 0, unit covariance; [... V C] -> [... V C], each slice for itself.

    With S the unbiased covariance of a slice and L L' = (1 - eps) S + eps I (Cholesky), a row becomes L^-1 (x - mean):
    Gram-Schmidt over the columns, so their order matters, and the order of the rows does not.

    Args:
        x: V samples of width C in each slice; V >= C + 1 unless `eps` is above 0, and 2 C for a covariance that is not
            nearly singular.
        eps: shrinkage towards the identity, in [0, 1).

    Returns:
        the whitened slices; one whose covariance has no Cholesky factor (V too small, or columns that depend on each
        other) is NaN, so that a GPU need not be waited for.
    """
    slices: Tensor = _Whiten.apply(x.reshape(-1, *x.shape[-2:]), eps)
    return slices.view(x.shape)


class _Whiten(torch.autograd.Function):
    """Slices [S V C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        _, rows, columns = x.shape
        with exact_products(x.device):
            centred = x - x.mean(1, keepdim=True)
            identity = torch.eye(columns, dtype=x.dtype, device=x.device)
            scale = (1 - eps) / (rows - 1)
            covariance = torch.baddbmm(identity, centred.mT, centred, beta=eps, alpha=scale)
            factor, failed = torch.linalg.cholesky_ex(covariance)
            factor = factor.masked_fill(failed[:, None, None] > 0, torch.nan)
            inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
            z = centred @ inverse.mT
        ctx.save_for_backward(z, inverse)
        ctx.scale = scale
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """With M = G'Z and K its lower triangle, mirrored: (G - scale * Z K) L^-1, less the mean of its columns."""
        z, inverse = ctx.saved_tensors
        with exact_products(z.device):
            lower = (grad.mT @ z).tril_()
            mirrored = lower + lower.tril(-1).mT
            inner = torch.baddbmm(grad, z, mirrored, alpha=-ctx.scale) @ inverse
            return inner.sub_(inner.mean(1, keepdim=True)), None


@full_precision
def w_mse(queries: Tensor, targets: Tensor, euclidean: bool = False) -> Tensor:
    """Mean squared distance of view i of the queries and view j of the targets, over rows and pairs i != j.

    Args:
        queries: [V B D], whitened, of V >= 2 views.
        targets: [V B D], the same images; the queries themselves in W-MSE, whose pairs then count twice.
        euclidean: compare the rows as they are, and divide by D; otherwise their unit vectors, which is 2 - 2 cos.

    Returns:
        [], computed from the sums over views, in O(V) instead of O(V^2).

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


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())
