"""Weak labels from a batch: connected components of its nearest-neighbor graph (WCL)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.losses.precision import full_precision


@torch.no_grad()
@full_precision
def nearest_neighbor_components(rows: Float[Tensor, "B D"]) -> Int[Tensor, " B"]:
    """Return the connected component of each row in the graph that joins each row to its nearest other row, by cosine.

    Args:
        rows: at least 2, of any length.

    Returns:
        int64 labels, equal within a component; every component has at least two rows.

    Source: WCL (Zheng et al., ICCV 2021, section 3.2; mingkai-zheng/WCL 9a6a273).
    """
    rows = F.normalize(rows, dim=1)
    return components((rows @ rows.T).fill_diagonal_(-torch.inf).argmax(1))


def components(neighbor: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Return the connected components of the graph in which every node i has one edge, to neighbor[i].

    A walk along the edges ends on the one cycle of its component, whose smallest node is the label. Steps double in
    length, so log2(B) of them reach the cycle and go around it; nothing waits for the device.
    """
    ahead, least = neighbor, torch.arange(len(neighbor), device=neighbor.device)
    for _ in range(len(neighbor).bit_length()):
        least = torch.minimum(least, least[ahead])  # over as many nodes as `ahead` is steps away
        ahead = ahead[ahead]
    return least[ahead]
