"""Alignment of two views of an image against the distance of two images, the evaluation of SDSSL.

Jang et al. 2023; `uni_ali.py` in the history of hagiss/SDSSL.
"""

import torch.nn.functional as F
from torch import Tensor

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, decimals
from limbeck.metrics.representation import negative_alignment, positive_alignment


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Compare two augmented views of a sample of the test images, at every depth and with the last."""
    first, second = inputs.views
    last = first[inputs.depths[-1]], second[inputs.depths[-1]]
    return {depth: alignment(first[depth], second[depth], *last) for depth in inputs.depths}


def alignment(a: Tensor, b: Tensor, last_a: Tensor, last_b: Tensor) -> Values:
    """Return the columns for a depth with features `a`, `b` [N D] of two views; [N D_last] are the last depth's."""
    unit_a, unit_b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    positive, negative = positive_alignment(unit_a, unit_b), negative_alignment(unit_a)
    raw_positive, raw_negative = positive_alignment(a, b), negative_alignment(a)
    return {
        "alignment_ratio": (negative / positive).item(),
        "positive_distance": positive.item(),
        "negative_distance": negative.item(),
        "raw_alignment_ratio": (raw_negative / raw_positive).item(),
        "raw_positive_distance": raw_positive.item(),
        "raw_negative_distance": raw_negative.item(),
        "distance_to_last": _distance_to_last(unit_a, unit_b, F.normalize(last_a, dim=-1), F.normalize(last_b, dim=-1)),
    }


def _distance_to_last(a: Tensor, b: Tensor, last_a: Tensor, last_b: Tensor) -> float | None:
    """Return the mean distance to the other view at the last depth; None where the widths differ."""
    if a.shape != last_a.shape:
        return None
    return 0.5 * (positive_alignment(a, last_b) + positive_alignment(b, last_a)).item()


_UNIT = (
    Column(
        name="alignment_ratio",
        label="alignment",
        better="higher",
        help="negative / positive distance: how many times farther apart two images are than two views of one",
    ),
    Column(
        name="positive_distance",
        label="positive distance",
        short="positive",
        format=decimals(3),
        better="lower",
        priority=2,
        help="mean squared distance of two views of an image",
    ),
    Column(
        name="negative_distance",
        label="negative distance",
        short="negative",
        format=decimals(3),
        better="higher",
        priority=2,
        help="mean squared distance of two images",
    ),
)
_RAW = tuple(
    Column(
        name=f"raw_{column.name}",
        label=f"{column.label}, raw",
        priority=3,
        help=f"`{column.name}` of the features without L2 normalization",
    )
    for column in _UNIT
)
_TO_LAST = Column(
    name="distance_to_last",
    label="distance to last layer",
    priority=3,
    help="mean squared distance to the features of the other view at the last layer; null where the widths differ",
)

METRIC = Metric(
    group="representation",
    columns=(*_UNIT, *_RAW, _TO_LAST),
    needs=frozenset({"views"}),
    compute=compute,
)
