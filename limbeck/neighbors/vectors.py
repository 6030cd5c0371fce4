"""Feature matrices as unit vectors, read block by block from memory or from a memory map."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.errors import UserError

FeatureMatrix = NDArray[np.floating] | Tensor
"""[N D], float16, float32 or float64, in memory or a memory map."""

BLOCK = 8192  # rows read at once
PRODUCTS = 2**23  # numbers multiplied at once in float64: 64 MiB


class UnitVectors:
    """The rows `indices` of `features` [N D] (all rows if None) as vectors of length 1 on `device`.

    A *position* counts within `indices`; an *index* counts within `features`. The values stay on the device, in their
    own type, if they take at most `memory` bytes; otherwise they are read again for each block.

    Raises:
        UserError: `features` is not a matrix of floats, `indices` do not increase or lie outside it, or a row has no
            direction (all zero, or not finite).
    """

    def __init__(
        self,
        features: FeatureMatrix,
        indices: NDArray[np.int64] | None,
        device: torch.device,
        memory: int = 2**32,
    ) -> None:
        _check_features(features, indices)
        self.features, self.device = features, device
        self.indices = np.arange(len(features)) if indices is None else indices
        self.dim = features.shape[1]
        self._cached: Tensor | None = None
        if len(self) * self.dim * features.itemsize <= memory:
            self._cached = self._read(slice(0, len(self)))
        self.lengths = self._lengths()

    def __len__(self) -> int:
        return len(self.indices)

    def unit(self, positions: slice | Tensor) -> Tensor:
        """Return the unit vectors at `positions`, float32 [B D]."""
        return self._values(positions).float() * (1 / self.lengths[positions]).float()[:, None]

    def cosines(self, query_idx: Tensor, base: "UnitVectors", candidate_idx: Tensor) -> Tensor:
        """Return the cosine [B k] of each row at `query_idx` [B] with the rows of `base` at `candidate_idx` [B k].

        Products and sums are float64 and the result is rounded to float32, so it is the same on every device.
        """
        step = max(1, PRODUCTS // (self.dim * candidate_idx.shape[1]))
        blocks = zip(query_idx.split(step), candidate_idx.split(step), strict=True)
        return torch.cat([self._cosines(queries, base, candidates) for queries, candidates in blocks])

    def cosine_matrix(self, query_idx: Tensor, base: "UnitVectors", base_idx: Tensor) -> Tensor:
        """Return the cosine of every row at `query_idx` [B] with every row of `base` at `base_idx` [c], [B c]."""
        sums = self._values(query_idx).double() @ base._values(base_idx).double().T
        return (sums / (self.lengths[query_idx][:, None] * base.lengths[base_idx])).float()

    def _cosines(self, query_idx: Tensor, base: "UnitVectors", candidate_idx: Tensor) -> Tensor:
        sums = (self._values(query_idx).double()[:, None] * base._values(candidate_idx).double()).sum(dim=2)
        return (sums / (self.lengths[query_idx][:, None] * base.lengths[candidate_idx])).float()

    def _values(self, positions: slice | Tensor) -> Tensor:
        if self._cached is not None:
            return self._cached[positions]
        return self._read(positions if isinstance(positions, slice) else positions.cpu().numpy())

    def _read(self, positions: slice | NDArray[np.int64]) -> Tensor:
        everything = isinstance(positions, slice) and len(self) == len(self.features)
        values = self.features[positions if everything else self.indices[positions]]
        if not isinstance(values, Tensor):
            own = everything and values.flags.writeable and not isinstance(values, np.memmap)  # in memory already
            values = torch.from_numpy(values if own else np.array(values))
        return values.to(self.device)

    def _lengths(self) -> Tensor:
        """Return the Euclidean norm of every row, float64 [n]."""
        # one array: a list of the blocks' results would leave holes in the heap
        lengths = torch.empty(len(self), dtype=torch.float64, device=self.device)
        for start in range(0, len(self), BLOCK):
            block = slice(start, start + BLOCK)
            lengths[block] = torch.linalg.vector_norm(self._values(block).double(), dim=1)
        if broken := int((~lengths.isfinite()).sum()):
            raise UserError(
                f"{broken:,} of {len(self):,} feature rows contain values that are not finite; compute them again",
                code="features-not-finite",
            )
        if zero := int((lengths == 0).sum()):
            raise UserError(
                f"{zero:,} of {len(self):,} feature rows are all zero and have no direction; leave them out",
                code="features-all-zero",
            )
        return lengths


def _check_features(features: FeatureMatrix, indices: NDArray[np.int64] | None) -> None:
    if features.ndim != 2 or not _is_floating(features):
        raise UserError(
            f"features are {features.dtype} of shape {tuple(features.shape)}; a float matrix [N D] is needed",
            code="features-not-a-float-matrix",
        )
    if indices is not None and len(indices) and not _is_increasing(indices, len(features)):
        raise UserError(
            f"row indices must increase and be at least 0 and below {len(features):,}, the number of feature rows",
            code="indices-not-increasing",
        )


def _is_floating(features: FeatureMatrix) -> bool:
    return features.is_floating_point() if isinstance(features, Tensor) else features.dtype.kind == "f"


def _is_increasing(indices: NDArray[np.int64], count: int) -> bool:
    return bool(indices[0] >= 0 and indices[-1] < count and (np.diff(indices) > 0).all())
