"""What stands between a backbone and a loss, and is thrown away afterwards."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(widths: Sequence[int], *, trailing_norm: bool = False, norm: bool = True, bias: bool = False) -> nn.Sequential:
    """Linear layers of the given widths, each followed by BatchNorm and ReLU except the last.

    Args:
        widths: input width, hidden widths, output width.
        trailing_norm: ends with a BatchNorm without scale and shift.
        norm: BatchNorms follow the hidden layers.
        bias: linear layers have biases.

    Source: the projectors and predictors of MoCo v3 and of hagiss/SDSSL bbd34fa.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(width_in, width_out, bias=bias))
        layers += [nn.BatchNorm1d(width_out)] * norm + [nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=bias))
    if trailing_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


class Head(nn.Module):
    """A projector and, for methods that predict, a predictor."""

    def __init__(self, projector: nn.Module, predictor: nn.Module | None = None) -> None:
        super().__init__()
        self.projector = projector
        self.predictor = predictor

    def project(self, features: Tensor) -> Tensor:
        """[B D_tap] -> [B D]."""
        return self.projector(features)

    def predict(self, z: Tensor) -> Tensor:
        """[B D] -> [B D]; the identity without a predictor."""
        return z if self.predictor is None else self.predictor(z)


def hypercolumn(maps: Sequence[Tensor]) -> Tensor:
    """Maps [B C_l H_l W_l], the last one the smallest -> [B sum of C_l, H W], at every place of the last what all say.

    Resized bilinearly, without antialiasing: a map of twice the side becomes means of 2 x 2.
    """
    size = maps[-1].shape[-2:]
    resized = [F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps]
    return torch.cat(resized, dim=1)


class HypercolumnPool(nn.Module):
    """Mixes a hypercolumn place by place (1x1 convolution, BatchNorm, ReLU) and averages over places.

    Args:
        channels: of each map.
        width: D of the result.

    Source: zaczgao/Cross-Context_Learning 340bca9, `FeatDistiller`.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        mix = nn.Conv2d(sum(channels), width, kernel_size=1, bias=False)
        self.mix = nn.Sequential(mix, nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """[B C_l H_l W_l] of each depth -> [B D]."""
        return self.mix(hypercolumn(maps)).mean(dim=(2, 3))
