"""Choose the temperature for a teacher's similarities from its features, where no tuned value exists."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TARGET_NEIGHBORS = 32
"""Effective number of neighbors that a temperature is chosen for; a tenth of the sample where that is less."""
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.005, 1.0
MAX_RESULTANT_LENGTH = 0.5
"""Norm of the mean of unit rows above which features count as anisotropic: half of every row is the same."""


def effective_neighbors(sample: Float[Tensor, "M D"], temperature: float) -> float:
    """Return the effective number of rows in a row's softmax over the others: exp of its mean entropy.

    Args:
        sample: at least 3 rows, of any length.
        temperature: divides the cosines.

    Returns:
        Between 1 and M - 1.
    """
    rows = F.normalize(sample.double(), dim=1)
    logits = (rows @ rows.T / temperature).fill_diagonal_(-torch.inf)
    shares = F.softmax(logits, dim=1)
    return float(torch.special.entr(shares).sum(1).mean().exp())


def temperature_for(sample: Float[Tensor, "M D"]) -> float:
    """Return the temperature, to two digits, at which a row has `TARGET_NEIGHBORS` effective neighbors.

    It is found by bisection, because the number of neighbors rises with the temperature. With too few, the targets are
    the images themselves; with too many, they are the same for all images.
    """
    wanted = min(TARGET_NEIGHBORS, len(sample) / 10)
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(12):
        middle = (low + high) / 2
        if effective_neighbors(sample, math.exp(middle)) < wanted:
            low = middle
        else:
            high = middle
    return float(f"{math.exp(high):.2g}")


def mean_resultant_length(sample: Float[Tensor, "M D"]) -> float:
    """Return the norm of the mean of the unit rows: 0 if they point everywhere, 1 if all are the same."""
    return float(F.normalize(sample.double(), dim=1).mean(0).norm())
