"""From heat maps to keypoints and from keypoints to a picture of the edges between them, as in AutoLink.

He, Wandt and Rhodin, *AutoLink: Self-supervised Learning of Human Skeletons and Object Outlines by Linking Keypoints*,
NeurIPS 2022; xingzhehe/AutoLink 3fbde11, `models/encoder.py` and `models/decoder.py`. A keypoint is (row, column), from
-1 at the center of the first row or column of pixels to 1 at that of the last.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.precision import full_precision

GAIN = 512
"""Factor of the edge scores, which makes them move as fast as the other parameters do."""
SAME_POINT = 1e-8
"""Added to the squared length of an edge: one between equal points is a dot."""


@full_precision
def soft_argmax(heat_maps: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K 2"]:
    """Return the mean place of every map under the softmax over its places, as (row, column) in [-1, 1]."""
    weights = heat_maps.flatten(2).softmax(dim=2).view_as(heat_maps)
    rows, columns = (_places(side, heat_maps) for side in heat_maps.shape[2:])
    return torch.stack([weights.sum(3) @ rows, weights.sum(2) @ columns], dim=2)


@full_precision
def edge_weights(scores: Float[Tensor, "K K"]) -> Float[Tensor, "K K"]:
    """Return the weights of the edges, which are above 0; only those above the diagonal count."""
    return F.softplus(GAIN * scores)


@full_precision
def edge_map(
    keypoints: Float[Tensor, "B K 2"], weights: Float[Tensor, "K K"], thickness: float, size: int
) -> Float[Tensor, "B 1 S S"]:
    """Draw every edge of two keypoints; the maximum over edges of weight * exp(-d^2 / thickness) is a pixel.

    Args:
        keypoints: (row, column) of each, in [-1, 1].
        weights: of the edge between keypoints i < j, at row i and column j.
        thickness: in squared units of the keypoints; d is the distance of a pixel from the edge.
        size: S, pixels of a side.
    """
    first, second = torch.triu_indices(len(weights), len(weights), offset=1, device=weights.device)
    start, along = keypoints[:, first], keypoints[:, second] - keypoints[:, first]
    row, column = start[:, :, :, None, None].unbind(2)  # [B E 1 1]
    down, right = along[:, :, :, None, None].unbind(2)
    places = _places(size, keypoints)
    row, column = places[:, None] - row, places - column  # [B E S 1], [B E 1 S]
    nearest = ((row * down + column * right) / (SAME_POINT + down.square() + right.square())).clamp(0, 1)
    distance = (row - nearest * down).square() + (column - nearest * right).square()
    drawn = (-distance / thickness).exp() * weights[first, second][:, None, None]
    return drawn.amax(dim=1, keepdim=True)


def _places(side: int, like: Tensor) -> Float[Tensor, " side"]:
    return torch.linspace(-1, 1, side, device=like.device, dtype=like.dtype)
