"""Label propagation: labels of a frame of a video, from frames with labels and the similarity of their places.

Jabri, Owens and Efros, *Space-Time Correspondence as a Contrastive Random Walk*, NeurIPS 2020; facebookresearch/dino
7c446df `eval_video_segmentation.py` (`label_propagation`, `norm_mask`).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

TILE = 16  # places of the target along a side that are compared at once, which bounds the memory


def propagate(
    target: Float[Tensor, "D h w"],
    sources: Float[Tensor, "n D h w"],
    labels: Float[Tensor, "n C h w"],
    *,
    radius: int = 12,
    top: int = 5,
    temperature: float = 0.1,
) -> Float[Tensor, "C h w"]:
    """Return soft labels of the target: at each place a mean of those of the most similar places of all sources.

    Args:
        target: the feature map of the frame.
        sources: feature maps of frames with labels.
        labels: their labels, soft or one-hot.
        radius: rows and columns that a place may have moved.
        top: how many places count; those with the similarity of the last one count as well.
        temperature: divides the cosines, of which the weights are exponentials.
    """
    height, width = target.shape[1:]
    unit, others = F.normalize(target, dim=0), F.normalize(sources, dim=1)
    found = torch.empty_like(labels[0])
    for y in range(0, height, TILE):
        rows, near_rows = _window(y, height, radius)
        for x in range(0, width, TILE):
            columns, near_columns = _window(x, width, radius)
            part, around = unit[:, rows, columns], others[:, :, near_rows, near_columns]
            affinity = torch.einsum("dyx,ndvu->yxnvu", part, around).div(temperature).exp()
            up, across = _reached(rows, near_rows, radius), _reached(columns, near_columns, radius)
            reached = (up[:, None, None, :, None] & across[:, None, None, :]).to(affinity)
            weights = _strongest((affinity * reached).flatten(2), top)
            values = labels[:, :, near_rows, near_columns].transpose(0, 1).flatten(1)
            found[:, rows, columns] = torch.einsum("yxs,cs->cyx", weights, values)
    return found


def _window(start: int, length: int, radius: int) -> tuple[slice, slice]:
    """Return the places of a tile along one side, and those that are within reach of one of them."""
    end = min(start + TILE, length)
    return slice(start, end), slice(max(0, start - radius), min(length, end + radius))


def _reached(places: slice, around: slice, radius: int) -> Tensor:
    """Return which places of `around` each of `places` reaches, bool [places around]."""
    first, second = (torch.arange(part.start, part.stop) for part in (places, around))
    return (first[:, None] - second).abs() <= radius


def _strongest(affinity: Float[Tensor, "y x S"], top: int) -> Float[Tensor, "y x S"]:
    """Return the largest values of each place, divided by their sum, and 0 for all others."""
    least = affinity.topk(min(top, affinity.shape[2]), dim=2).values[..., -1:]
    strongest = affinity.masked_fill(affinity < least, 0)
    return strongest / strongest.sum(dim=2, keepdim=True)


def hard_labels(soft: Float[Tensor, "C h w"], size: tuple[int, int]) -> Int[Tensor, "H W"]:
    """Return the class of every pixel: soft labels are interpolated bilinearly and brought to [0, 1], each class.

    `size` is (H, W). A class that is nowhere above 0 stays as it is.
    """
    return scale_classes(F.interpolate(soft[None], size=size, mode="bilinear", align_corners=False)[0]).argmax(dim=0)


def scale_classes(soft: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
    """Return every class less its minimum and divided by the maximum of the rest, where it is above 0."""
    low, high = soft.amin(dim=(1, 2), keepdim=True), soft.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > 0, (soft - low) / (high - low).clamp(min=torch.finfo(soft.dtype).tiny), soft)
