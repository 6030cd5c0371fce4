"""Probabilities that are worth their name, and a threshold for images of none of the classes."""

import math
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

ACCEPTED = 0.95
"""Share of the held-out images that the threshold accepts."""
RANGE = (1e-3, 1e3)
"""Of temperatures."""


class Calibration(NamedTuple):
    """Calibration that turns logits into probabilities, and its quality on rows that were held out."""

    temperature: float
    """Divides the logits; 1 where no row could be held out."""
    threshold: float
    """Largest probability of an image below which it counts as none of the classes."""
    accuracy: float | None
    """On the held-out rows; None without any."""
    stderr: float | None
    """Standard error of it, sqrt(p (1 - p) / n)."""
    log_loss: float | None
    """Mean cross-entropy of the held-out rows, in nats, at this temperature."""
    held_out: int


def calibrate(logits: Float[Tensor, "N classes"], labels: Int[Tensor, " N"]) -> Calibration:
    """Return the temperature of the smallest cross-entropy of held-out rows, and the threshold that accepts 95 %.

    One more row, of which every class of these rows is equally likely, keeps the temperature of separated classes from
    0, where each probability would be 1 (as Platt's targets do, *Probabilistic Outputs for Support Vector Machines*,
    1999).
    Guo, Pleiss, Sun and Weinberger, *On Calibration of Modern Neural Networks*, ICML 2017, section 4.2; Hendrycks and
    Gimpel, *A Baseline for Detecting Misclassified and Out-of-Distribution Examples*, ICLR 2017.
    """
    if not len(labels):
        return Calibration(1.0, 0.0, None, None, None, 0)
    from scipy.optimize import minimize_scalar

    rows, classes = logits.shape
    known = (labels.bincount(minlength=classes) > 0).double()
    targets = (rows * F.one_hot(labels, classes).double() + known / known.sum()) / (rows + 1)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits.double() / math.exp(log_temperature), targets))

    found = minimize_scalar(loss, bounds=tuple(map(math.log, RANGE)), method="bounded", options={"xatol": 1e-6})
    temperature = math.exp(found.x)
    probabilities = (logits.double() / temperature).softmax(dim=1)
    accuracy = (probabilities.argmax(dim=1) == labels).double().mean().item()
    return Calibration(
        temperature=temperature,
        threshold=probabilities.amax(dim=1).quantile(1 - ACCEPTED).item(),
        accuracy=accuracy,
        stderr=math.sqrt(accuracy * (1 - accuracy) / len(labels)),
        log_loss=F.cross_entropy(logits.double() / temperature, labels).item(),
        held_out=len(labels),
    )
