"""What temperature suits a teacher whose features nobody has tuned one for."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WANTED = 32
"""Effective number of anchors that a temperature is chosen for; a tenth of the anchors where that is less."""
COLDEST, HOTTEST = 0.005, 1.0
MAX_RESULTANT_LENGTH = 0.5
"""Length of the mean of unit rows from which on features count as a cone: half of what they say is the same for all."""


def effective_neighbors(sample: Tensor, temperature: float) -> float:
    """How many of the other rows a row's softmax over their cosines spreads over: exp of its mean entropy.

    Args:
        sample: [M D], any length of rows, M at least 3.
        temperature: divides the cosines.

    Returns:
        Between 1 and M - 1.
    """
    rows = F.normalize(sample.double(), dim=1)
    logits = (rows @ rows.T / temperature).fill_diagonal_(-torch.inf)
    shares = F.softmax(logits, dim=1)
    return float(torch.special.entr(shares).sum(1).mean().exp())


def temperature_for(sample: Tensor) -> float:
    """The temperature, to two digits, at which a row of `sample` [M D] resembles `WANTED` others effectively.

    Found by bisection: the effective number rises with the temperature. Too few anchors and the targets are the images
    themselves; too many and they are all alike.
    """
    wanted = min(WANTED, len(sample) / 10)
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(12):
        middle = (low + high) / 2
        if effective_neighbors(sample, math.exp(middle)) < wanted:
            low = middle
        else:
            high = middle
    return float(f"{math.exp(high):.2g}")


def mean_resultant_length(sample: Tensor) -> float:
    """Length of the mean of the unit rows of `sample` [M D]: 0 where they point everywhere, 1 where all are one."""
    return float(F.normalize(sample.double(), dim=1).mean(0).norm())
