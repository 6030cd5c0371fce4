"""Segmentation: intersection over union from one confusion matrix over all pixels."""

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from limbeck.data.masks import IGNORED


def confusion_matrix(predicted: Int[Tensor, "*pixels"], truth: Shaped[Tensor, "*pixels"], classes: int) -> Tensor:
    """Return the number of pixels of each true class (row) and predicted class (column), int64 [classes classes]."""
    counts = truth != IGNORED
    pairs = classes * truth[counts].long() + predicted[counts].long()
    return pairs.bincount(minlength=classes**2).view(classes, classes)


def intersection_over_union(confusion: Int[Tensor, "C C"]) -> Float[Tensor, " C"]:
    """Return the IoU of every class, float64; NaN for one that neither truth nor prediction has."""
    both = confusion.diagonal().double()
    return both / (confusion.sum(dim=0) + confusion.sum(dim=1) - both)


def mean_iou(confusion: Int[Tensor, "C C"]) -> float:
    """Return the mean IoU of the classes that occur in truth or prediction."""
    return float(intersection_over_union(confusion).nanmean())
