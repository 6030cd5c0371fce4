"""Slices of longer series as an array that copies what is asked for."""

from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray


class SeriesSlices:
    """Values [K W C]: slice k has the steps `starts[k]` to `starts[k] + width` of the series `rows[k]`.

    What is indexed along the first axis is a copy; the series themselves are held once, however much slices overlap.

    Args:
        values: the series.
        rows: of which series a slice is.
        starts: its first step.
        width: steps of a slice.
    """

    def __init__(
        self,
        values: Float32[np.ndarray, "N T C"],
        rows: Int64[np.ndarray, " K"],
        starts: Int64[np.ndarray, " K"],
        width: int,
    ) -> None:
        self.source, self.rows, self.starts = values, rows, starts
        self.shape = (len(rows), width, values.shape[2])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> Float32[np.ndarray, "B W C"]:
        """Return a copy of some slices."""
        steps = self.starts[index, None] + np.arange(self.shape[1])
        found: NDArray[np.float32] = self.source[self.rows[index, None], steps]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy of all slices."""
        return self[:].astype(dtype or np.float32, copy=False)
