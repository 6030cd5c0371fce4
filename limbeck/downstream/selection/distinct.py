"""Near-duplicates are not chosen twice."""

import numpy as np
import torch

from limbeck.downstream.selection.choice import Available, Rows
from limbeck.neighbors.vectors import FeatureMatrix, UnitVectors


class DistinctRows:
    """Clears from `available` the near-duplicates of every row that has a label or was chosen.

    Args:
        descriptors: [N D], such as `neighbors.near_duplicates.thumbnails`.
        threshold: cosine from which two rows are near-duplicates.
        available: [N], changed in place.
    """

    def __init__(self, descriptors: FeatureMatrix, threshold: float, available: Available) -> None:
        self._vectors = UnitVectors(descriptors, None, torch.device("cpu"))
        self._unit = self._vectors.unit(slice(0, len(self._vectors)))
        self._threshold, self._available = threshold, available
        self.left_out = 0
        """Rows that were available and are near-duplicates of another one."""

    def clear(self, rows: Rows) -> None:
        """Make the near-duplicates of `rows` unavailable."""
        for block in np.array_split(rows, max(1, len(rows) // 256)):
            if len(block):
                similar = (self._unit @ self._unit[block].T).amax(dim=1).numpy() >= self._threshold
                self.left_out += int((self._available & similar).sum())
                self._available &= ~similar
