"""Choices of a strategy: rows in the order of choice, each with its reason, while some rows are available."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Available = NDArray[np.bool_]
"""[N], the rows that may still be chosen. The caller clears a row when it was chosen, and its near-duplicates."""

Rows = NDArray[np.int64]


class Choice(NamedTuple):
    """One row that a strategy chooses."""

    row: int
    reason: str


Choices = Iterator[Choice]
"""Choices, best first, until no row is available; each depends on what is available when it is requested."""


def in_order(order: Rows, reasons: dict[int, str] | str, available: Available) -> Choices:
    """Yield the rows of `order` that are available when their turn comes."""
    for row in order.tolist():
        if available[row]:
            yield Choice(row, reasons if isinstance(reasons, str) else reasons[row])


def best(scores: NDArray[np.floating] | NDArray[np.integer], available: Available) -> int:
    """Return the available row with the largest score, the smallest such row of several."""
    return int(np.where(available, scores, -np.inf).argmax())
