"""Losses without negatives, which pull two embeddings of one image together."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def cosine_distance(predictions: Float[Tensor, "B D"], targets: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Return the mean over rows of 2 - 2 cos(p_i, t_i), the squared distance of the unit vectors.

    Source: BYOL (Grill et al. 2020, eq. 2).
    """
    return (2 - 2 * F.cosine_similarity(predictions, targets, dim=1, eps=1e-12)).mean()


@full_precision
def mean_squared_error(first: Float[Tensor, "B D"], second: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Return the mean over rows and columns of the squared difference.

    Source: the invariance term of VICReg (facebookresearch/vicreg 4e12602), and of LeJEPA (Balestriero and LeCun 2025).
    """
    return F.mse_loss(first, second)


@full_precision
def mean_absolute_error(first: Float[Tensor, "B *item"], second: Float[Tensor, "B *item"]) -> Float[Tensor, ""]:
    """Return the mean over all values of the absolute difference.

    Source: the reconstruction loss of AutoLink (xingzhehe/AutoLink 3fbde11), there of features.
    """
    return F.l1_loss(first, second)


@full_precision
def map_cosine_distance(
    maps: Float[Tensor, "B C *places"], targets: Float[Tensor, "B C *places"], over: Literal["channels", "map"]
) -> Float[Tensor, ""]:
    """Return the mean over images of 1 - cos of their feature maps: over channels at each place, or over whole maps.

    Source: a reconstruction of Distill-DKP (Anand et al., arXiv 2410.14700), which names the cosine alone.
    """
    first, second = (maps, targets) if over == "channels" else (maps.flatten(1), targets.flatten(1))
    first, second = (F.normalize(side, dim=1, eps=1e-12) for side in (first, second))
    return F.mse_loss(first, second) * (first.shape[1] / 2)  # |a - b|^2 = 2 - 2 cos, in fewer launches than the cosine
