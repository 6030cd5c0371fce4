"""Agreement of the similarities between images in two feature spaces, of any widths (CKA)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import exact_products, full_precision


@full_precision
def cka_distance(first: Float[Tensor, "B D"], second: Float[Tensor, "B E"]) -> Float[Tensor, ""]:
    """Return 1 - CKA of the cosines between the rows of each space, with the unbiased estimate of HSIC.

    B is at least 4. The result is 0 where the cosines agree up to scale and shift, and 1 on average where they are
    unrelated, whatever the batch and the widths.

    Source: Kornblith et al. 2019, eq. 3; Song et al. 2012, eq. 5, for the estimate; Nguyen, Raghu and Kornblith 2021,
    which applies it to batches.
    """
    with exact_products(first.device):
        kernels = [_without_diagonal(rows) for rows in (first, second)]
        cross, *own = (_hsic(a, b) for a, b in ((kernels[0], kernels[1]), *zip(kernels, kernels, strict=True)))
    return 1 - cross / (own[0] * own[1]).sqrt()


def _without_diagonal(rows: Float[Tensor, "B _"]) -> Float[Tensor, "B B"]:
    """Return the cosines between rows, with 0 for that of a row with itself."""
    unit = F.normalize(rows, dim=1)
    cosines = unit @ unit.mT
    return cosines - cosines.diagonal().diag()


def _hsic(k: Float[Tensor, "B B"], other: Float[Tensor, "B B"]) -> Float[Tensor, ""]:
    """Return the unbiased estimate of HSIC from two kernels without diagonals, times B (B - 3)."""
    count = len(k)
    sums = k.sum(dim=1), other.sum(dim=1)
    shared = (k * other).sum() - 2 / (count - 2) * (sums[0] @ sums[1])
    return shared + sums[0].sum() * sums[1].sum() / ((count - 1) * (count - 2))
