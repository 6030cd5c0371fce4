"""The range that pixels of more than 8 bits span, found from their content: 16 bits often hold only 10 or 12."""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
BITS = (8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32)  # so that the brightest value is a quarter or more


class PixelRange(NamedTuple):
    """Values that become 0 and 255."""

    low: float
    high: float
    description: str

    @classmethod
    def of(cls, array: NDArray[Any]) -> Self:
        """Return the range of an array; ValueError where it is not numbers, or not finite."""
        if array.dtype.kind not in "biuf" or not array.size:
            raise ValueError(f"pixels of type {array.dtype} are no numbers")
        return cls.between(array.min().item(), array.max().item())

    @classmethod
    def between(cls, low: float, high: float) -> Self:
        """Return the range that pixels from `low` to `high` span: that of the next usual depth, else their own.

        Floats up to 1 span [0, 1]; other numbers from 0 on span an even number of bits, from 8 to 32.
        """
        if not np.isfinite([low, high]).all():
            raise ValueError(f"pixels that are not finite: from {low} to {high}")
        extent = f"values from {low:,.6g} to {high:,.6g}"
        if low >= 0 and isinstance(high, float) and high <= 1:
            return cls(0, 1, f"{extent}, read as a share of 1")
        for bits in BITS:
            if low >= 0 and high <= 2**bits - 1:
                return cls(0, 2**bits - 1, f"{extent}, read as {bits} bits")
        return cls(low, high, f"{extent}, stretched")

    def scale(self, array: NDArray[Any]) -> Pixels:
        """Return values as 0..255."""
        width = (self.high - self.low) or 1.0
        exact = np.float32 if array.dtype.itemsize < 4 else np.float64
        scaled = np.multiply(np.subtract(array, self.low, dtype=exact), 255 / width)
        return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
