"""Rows of an array of features as directions: read block by block, whatever their length and type."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.errors import UserError

Features = NDArray[np.floating] | Tensor
"""[N D], float16, float32 or float64, in memory or a memory map."""

BLOCK = 8192  # rows read at once
PRODUCTS = 2**23  # numbers multiplied at once in float64: 64 MiB


class UnitVectors:
    """`rows` of `features` [N D] (all of them without), seen on `device`.

    Values are kept there in their own type if they take at most `memory` bytes, and are read again each time otherwise.

    Raises:
        UserError: no matrix of floats, `rows` that are not increasing numbers of rows, or rows without a direction
            (all zero, or not finite).
    """

    def __init__(
        self, features: Features, rows: NDArray[np.int64] | None, device: torch.device, memory: int = 2**32
    ) -> None:
        if features.ndim != 2 or not _floats(features):
            raise UserError(f"features are {features.dtype} of shape {tuple(features.shape)}: floats [N D] are needed")
        if rows is not None and len(rows) and not _increasing(rows, len(features)):
            raise UserError(f"rows must increase and lie within the {len(features):,} rows of the features")
        self.features, self.device = features, device
        self.numbers = np.arange(len(features)) if rows is None else rows
        self.dim = features.shape[1]
        self._held: Tensor | None = None
        if len(self) * self.dim * features.itemsize <= memory:
            self._held = self._read(slice(0, len(self)))
        self.lengths = self._lengths()

    def __len__(self) -> int:
        return len(self.numbers)

    def unit(self, part: slice | Tensor) -> Tensor:
        """Float32 rows [B D] of length 1, at positions within `numbers`."""
        return self._values(part).float() * (1 / self.lengths[part]).float()[:, None]

    def cosines(self, mine: Tensor, other: "UnitVectors", theirs: Tensor) -> Tensor:
        """Cosines [B k] of the row at `mine` [B] and those of `other` at `theirs` [B k], both positions.

        Products and sums in float64, rounded to float32: equal for equal pairs, on every device.
        """
        step = max(1, PRODUCTS // (self.dim * theirs.shape[1]))
        parts = zip(mine.split(step), theirs.split(step), strict=True)
        return torch.cat([self._products(i, other, j) for i, j in parts])

    def table(self, mine: Tensor, other: "UnitVectors", theirs: Tensor) -> Tensor:
        """The same cosines of each row at `mine` [B] with each of `other` at `theirs` [c]: [B c]."""
        sums = self._values(mine).double() @ other._values(theirs).double().T
        return (sums / (self.lengths[mine][:, None] * other.lengths[theirs])).float()

    def _products(self, mine: Tensor, other: "UnitVectors", theirs: Tensor) -> Tensor:
        sums = (self._values(mine).double()[:, None] * other._values(theirs).double()).sum(dim=2)
        return (sums / (self.lengths[mine][:, None] * other.lengths[theirs])).float()

    def _values(self, part: slice | Tensor) -> Tensor:
        if self._held is not None:
            return self._held[part]
        return self._read(part if isinstance(part, slice) else part.cpu().numpy())

    def _read(self, part: slice | NDArray[np.int64]) -> Tensor:
        all_of_them = isinstance(part, slice) and len(self) == len(self.features)
        values = self.features[part if all_of_them else self.numbers[part]]
        return (values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))).to(self.device)

    def _lengths(self) -> Tensor:
        """[n], float64."""
        parts = (self._values(slice(start, start + BLOCK)) for start in range(0, len(self), BLOCK))
        lengths = torch.cat([torch.linalg.vector_norm(part.double(), dim=1) for part in parts])
        if broken := int((~lengths.isfinite()).sum()):
            raise UserError(f"{broken:,} of the {len(self):,} rows of the features have values that are not finite")
        if zero := int((lengths == 0).sum()):
            raise UserError(f"{zero:,} of the {len(self):,} rows of the features are all zero and have no direction")
        return lengths


def _floats(features: Features) -> bool:
    return features.is_floating_point() if isinstance(features, Tensor) else features.dtype.kind == "f"


def _increasing(rows: NDArray[np.int64], count: int) -> bool:
    return bool(rows[0] >= 0 and rows[-1] < count and (np.diff(rows) > 0).all())
