"""Losses of classifiers where some images have no label."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.losses.precision import full_precision


@full_precision
def known_cross_entropy(
    logits: Float[Tensor, "B Q"], labels: Int[Tensor, " B"], label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Return the sum of the cross-entropies of the rows with a label, divided by the number of all rows.

    So the loss of a batch is the mean of those of its parts, and it is 0, with a gradient of 0, without any label.

    Args:
        logits: rows of scores.
        labels: int64 classes; -1 for none.
        label_smoothing: share of a label that is spread over all classes, the right one included.
    """
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum", label_smoothing=label_smoothing) / len(
        labels
    )
