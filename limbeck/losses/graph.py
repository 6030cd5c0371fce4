"""Weak labels from a batch itself: who is connected to whom when each row holds on to its nearest neighbour."""

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.precision import full_precision


@torch.no_grad()
@full_precision
def neighbour_components(rows: Tensor) -> Tensor:
    """The connected component of each row in the graph that joins each row to its nearest other one, by cosine.

    Args:
        rows: [B D], any length of rows, B >= 2.

    Returns:
        [B] int64, equal for rows of one component; none has fewer than two.

    Source: WCL (Zheng et al., ICCV 2021, section 3.2; mingkai-zheng/WCL 9a6a273).
    """
    rows = F.normalize(rows, dim=1)
    return components((rows @ rows.T).fill_diagonal_(-torch.inf).argmax(1))


def components(neighbour: Tensor) -> Tensor:
    """Connected components of the graph in which every node i has one edge, to neighbour[i]; [B] -> [B] int64.

    A walk from neighbour to neighbour ends on the one cycle of its component, whose smallest node is the label. Steps
    double in length, so log2(B) of them reach the cycle and go round it; nothing waits for the device.
    """
    ahead, least = neighbour, torch.arange(len(neighbour), device=neighbour.device)
    for _ in range(len(neighbour).bit_length()):
        least = torch.minimum(least, least[ahead])  # over as many nodes as `ahead` is steps away
        ahead = ahead[ahead]
    return least[ahead]
