"""Total coding rate of embeddings: how much of the sphere they fill (EMP-SSL)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import exact_products, full_precision
from limbeck.losses.redundancy import Average, one_process


@full_precision
def total_coding_rate(
    rows: Float[Tensor, "V B D"], epsilon: float, average: Average = one_process
) -> Float[Tensor, ""]:
    """Return the mean over views of  1/2 log det( I + D / (N epsilon) Z'Z ), with N rows over all processes.

    It is largest where rows point into all directions evenly, and 1/2 log(1 + D / epsilon) where all are equal.

    Args:
        rows: rows of any length, each view by itself; their unit vectors count.
        epsilon: square of the distortion that is allowed.
        average: mean over processes, of the second moments.

    Source: EMP-SSL (Tong et al. 2023; tsb0601/EMP-SSL 8fc3758, `TotalCodingRate`), after Ma, Derksen, Hong and Wright
    2007.
    """
    rows, (count, width) = F.normalize(rows, dim=2), rows.shape[1:]
    with exact_products(rows.device):
        moments = average(rows.mT @ rows / count)
        identity = torch.eye(width, dtype=rows.dtype, device=rows.device)
        factor, _ = torch.linalg.cholesky_ex(identity + width / epsilon * moments)
    return factor.diagonal(dim1=1, dim2=2).log().sum(1).mean()
