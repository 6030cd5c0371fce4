"""Heads between the backbone and the loss, which are discarded after training."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses.assignment import prototype_scores


def mlp(
    widths: Sequence[int],
    *,
    trailing_norm: bool = False,
    norm: bool = True,
    bias: bool = False,
    last_bias: bool | None = None,
    gelu: bool = False,
) -> nn.Sequential:
    """Build linear layers of the given widths, each but the last followed by BatchNorm and ReLU.

    Args:
        widths: input width, hidden widths, output width.
        trailing_norm: end with a BatchNorm without scale and shift.
        norm: put BatchNorms after the hidden layers.
        bias: give the linear layers biases.
        last_bias: give the last one a bias; None: as the others.
        gelu: take GELU in the place of ReLU.

    Source: the projectors and predictors of MoCo v3 and of hagiss/SDSSL bbd34fa.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(width_in, width_out, bias=bias))
        layers += [nn.BatchNorm1d(width_out)] * norm + [nn.GELU() if gelu else nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=bias if last_bias is None else last_bias))
    if trailing_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


class Head(nn.Module):
    """A projector and, for methods that predict, a predictor."""

    def __init__(self, projector: nn.Module, predictor: nn.Module | None = None) -> None:
        super().__init__()
        self.projector = projector
        self.predictor = predictor

    def project(self, features: Float[Tensor, "B _"]) -> Float[Tensor, "B D"]:
        """Map pooled features to the embedding."""
        return self.projector(features)

    def predict(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map an embedding to its prediction; without a predictor, return it unchanged."""
        return z if self.predictor is None else self.predictor(z)


class PrototypeLayer(nn.Module):
    """Map embeddings [B D] to their cosines with prototypes, [B Q], whatever the length of both.

    That is a linear layer under weight normalization with a gain of 1, on unit vectors.
    """

    def __init__(self, dim: int, num_prototypes: int) -> None:
        super().__init__()
        self.weight = nn.Linear(dim, num_prototypes, bias=False).weight

    def forward(self, embeddings: Float[Tensor, "B D"]) -> Float[Tensor, "B Q"]:
        """Compute the cosines, in full precision."""
        return self.scores(embeddings, self.weight)

    @staticmethod
    def scores(embeddings: Float[Tensor, "B D"], prototypes: Float[Tensor, "Q D"]) -> Float[Tensor, "B Q"]:
        """Return the cosines of rows of any length."""
        return prototype_scores(embeddings, F.normalize(prototypes, dim=1))


def hypercolumn(maps: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B C H W"]:
    """Concatenate feature maps over channels, resized to the last one, which is the smallest.

    Maps are resized bilinearly, without antialiasing: a map of twice the side becomes means of 2 x 2.
    """
    size = maps[-1].shape[-2:]
    resized = [F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps]
    return torch.cat(resized, dim=1)


class HypercolumnPool(nn.Module):
    """Mix a hypercolumn at every position (1x1 convolution, BatchNorm, ReLU) and average over positions.

    Args:
        channels: of each feature map.
        width: D of the result.

    Source: zaczgao/Cross-Context_Learning 340bca9, `FeatDistiller`.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        mix = nn.Conv2d(sum(channels), width, kernel_size=1, bias=False)
        self.mix = nn.Sequential(mix, nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B D"]:
        """Map the feature maps of the depths to one vector per image."""
        return self.mix(hypercolumn(maps)).mean(dim=(2, 3))
