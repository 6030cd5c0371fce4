"""How the features lie: tightness of views, spread of images, uniformity, effective rank."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from limbeck.geometry import negative_alignment, positive_alignment, uniformity


class Geometry(NamedTuple):
    """The geometry of one layer; distances are squared, of L2-normalised features unless the name says raw."""

    positive: float  # between two views of an image; lower is tighter
    negative: float  # between two images; higher is more spread
    ratio: float  # negative / positive
    raw_positive: float
    raw_negative: float
    raw_ratio: float
    uniformity: float  # at most 0; lower is more uniform
    to_last: float | None  # from a view's features here to the other view's in the last layer; None if widths differ


def geometry(a: Tensor, b: Tensor, last_a: Tensor, last_b: Tensor) -> Geometry:
    """Geometry of a layer whose features of two views of the same N images are `a` and `b` [N D].

    `last_a` and `last_b` [N D_last] are the last layer's. The alignments are those of SDSSL's evaluation (Jang et al.
    2023; `uni_ali.py` in the history of hagiss/SDSSL).
    """
    unit_a, unit_b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    near, far = positive_alignment(unit_a, unit_b), negative_alignment(unit_a)
    raw_near, raw_far = positive_alignment(a, b), negative_alignment(a)
    return Geometry(
        positive=near.item(),
        negative=far.item(),
        ratio=(far / near).item(),
        raw_positive=raw_near.item(),
        raw_negative=raw_far.item(),
        raw_ratio=(raw_far / raw_near).item(),
        uniformity=uniformity(a).item(),
        to_last=_to_last(unit_a, unit_b, F.normalize(last_a, dim=-1), F.normalize(last_b, dim=-1)),
    )


def _to_last(a: Tensor, b: Tensor, last_a: Tensor, last_b: Tensor) -> float | None:
    if a.shape != last_a.shape:
        return None
    return 0.5 * (positive_alignment(a, last_b) + positive_alignment(b, last_a)).item()
