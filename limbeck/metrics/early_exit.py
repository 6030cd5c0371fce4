"""Early exit: an image leaves a network at the first depth that is sure of its class.

By confidence, the largest probability reaches a threshold; by patience, so many depths in a row agree (Zhou et al.,
*BERT Loses Patience*, NeurIPS 2020). The last depth takes the rest.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Exits(NamedTuple):
    """Outcome of an exit rule."""

    accuracy: float
    cost: float
    """Mean cost of an image: that of the network up to where it leaves."""
    shares: Float[Tensor, " L"]
    """Of the images that leave at each depth."""


def exit_by_confidence(confidences: Float[Tensor, "L N"], threshold: float) -> Int[Tensor, " N"]:
    """Return for every image the first of the L depths with a confidence of at least `threshold`, or the last."""
    return _first(confidences >= threshold)


def exit_by_patience(predicted: Int[Tensor, "L N"], patience: int) -> Int[Tensor, " N"]:
    """Return for every image the first depth at which `patience` depths in a row predict one class, or the last."""
    runs = torch.ones_like(predicted)
    for depth in range(1, len(predicted)):
        runs[depth] = torch.where(predicted[depth] == predicted[depth - 1], runs[depth - 1] + 1, 1)
    return _first(runs >= patience)


def measure_exits(
    exits: Int[Tensor, " N"], predicted: Int[Tensor, "L N"], labels: Int[Tensor, " N"], costs: Float[Tensor, " L"]
) -> Exits:
    """Return accuracy and mean cost of images that leave at the depths `exits`, counted from 0."""
    chosen = predicted.gather(0, exits[None])[0]
    shares = exits.bincount(minlength=len(predicted)).double() / len(exits)
    return Exits((chosen == labels).double().mean().item(), (shares * costs.double()).sum().item(), shares)


def cheapest_threshold(
    confidences: Float[Tensor, "L N"], predicted: Int[Tensor, "L N"], labels: Int[Tensor, " N"], tolerance: float
) -> float:
    """Return the smallest of 101 thresholds that loses no more than `tolerance` of the last depth's accuracy.

    Thresholds are 0, 0.01 ... 1; above 1, where no image leaves early, if none of them is good enough.
    """
    costs = torch.zeros(len(predicted), device=predicted.device)
    wanted = (predicted[-1] == labels).double().mean().item() - tolerance
    for percent in range(101):
        exits = exit_by_confidence(confidences, percent / 100)
        if measure_exits(exits, predicted, labels, costs).accuracy >= wanted:
            return percent / 100
    return 1.01


def _first(sure: Tensor) -> Int[Tensor, " N"]:
    """Return the first row [N] of `sure` [L N] that is true, or the last row."""
    sure = sure.clone()
    sure[-1] = True
    return sure.int().argmax(dim=0)
