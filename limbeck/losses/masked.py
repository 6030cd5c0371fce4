"""Masked self-distillation: targets from the blocks of an EMA encoder, and the loss at the hidden positions."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.losses.precision import full_precision

EPSILON = 1e-5  # of the normalizations
FLOOR = 1e-6  # of the variance in `spread`


@full_precision
def masked_targets(
    blocks: Float[Tensor, "K B P D"],
    present: Bool[Tensor, "B P"],
    norm: Literal["instance", "layer", "none"],
    norm_of_mean: bool,
) -> Float[Tensor, "B P D"]:
    """Return the mean of the normalized outputs of several blocks.

    Args:
        blocks: outputs of K blocks.
        present: positions with values; only they count for "instance".
        norm: normalize every block over the positions of each row ("instance"), over channels ("layer"), or not.
        norm_of_mean: normalize the mean over channels, too.

    Source: data2vec (Baevski et al., ICML 2022); `Data2VecAudioModel.forward` in facebookresearch/fairseq 3d262bb.
    """
    if norm == "instance":
        blocks = _instance_norm(blocks, present)
    elif norm == "layer":
        blocks = F.layer_norm(blocks, blocks.shape[-1:], eps=EPSILON)
    mean = blocks.mean(0)
    return F.layer_norm(mean, mean.shape[-1:], eps=EPSILON) if norm_of_mean else mean


def _instance_norm(blocks: Float[Tensor, "K B P D"], present: Bool[Tensor, "B P"]) -> Float[Tensor, "K B P D"]:
    weights = present[:, :, None].to(blocks.dtype)
    count = weights.sum(1, keepdim=True).clamp(min=1)
    centered = blocks - (weights * blocks).sum(2, keepdim=True) / count
    variance = (weights * centered.square()).sum(2, keepdim=True) / count
    return centered * (variance + EPSILON).rsqrt()


@full_precision
def masked_prediction(
    predictions: Float[Tensor, "B P D"], targets: Float[Tensor, "B P D"], hidden: Bool[Tensor, "B P"], beta: float
) -> Float[Tensor, ""]:
    """Return the sum over hidden positions and channels of the error, divided by the square root of the width.

    The error is squared, or for `beta` > 0 the smooth L1 distance. The sum is to be divided by the number of hidden
    positions of all processes.

    Source: as `masked_targets`.
    """
    errors = F.mse_loss(predictions, targets, reduction="none")
    if beta:
        errors = F.smooth_l1_loss(predictions, targets, reduction="none", beta=beta)
    return (errors.sum(-1) * hidden).sum() / predictions.shape[-1] ** 0.5


@full_precision
def spread(values: Float[Tensor, "B P D"], hidden: Bool[Tensor, "B P"]) -> Float[Tensor, ""]:
    """Return the mean over channels of the standard deviation at the hidden positions: near 0 after a collapse.

    Source: as `masked_targets` (`compute_var`, which adds 1e-6 to the unbiased variance).
    """
    weights = hidden[:, :, None].to(values.dtype)
    count = weights.sum()
    centered = values - (weights * values).sum((0, 1)) / count
    variance = (weights * centered.square()).sum((0, 1)) / (count - 1).clamp(min=1)
    return (variance + FLOOR).sqrt().mean()
