"""Losses that pull two descriptions of one image together, without negatives."""

import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def cosine_distance(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of 2 - 2 cos(p_i, t_i), which is the squared distance of the unit vectors; [B D], [B D] -> [].

    Source: BYOL (Grill et al. 2020, eq. 2).
    """
    return (2 - 2 * F.cosine_similarity(predictions, targets, dim=1, eps=1e-12)).mean()
