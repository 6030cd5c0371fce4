"""Vectors of several teachers side by side: each of unit length, all with deviations of one size."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

LEAST_DEVIATION = 1e-3  # of unit vectors that are nearly all the same, and would be magnified without end


def scales_of(found: Sequence[Float[Tensor, "M _"]]) -> tuple[float, ...]:
    """Return for each teacher the factor that brings the deviations of its unit vectors from their mean to size 1.

    Unit vectors with a mean of norm r deviate from it by sqrt(1 - r^2) (root mean square). Without the factor, a
    teacher whose vectors lie in a narrow cone would count for nothing beside one whose vectors are spread.
    """
    lengths = [F.normalize(vectors.double(), dim=1).mean(0).square().sum().item() for vectors in found]
    return tuple(max(1 - length, LEAST_DEVIATION**2) ** -0.5 for length in lengths)


def side_by_side(found: Sequence[Float[Tensor, "N _"]], scales: Sequence[float]) -> Float[Tensor, "N D"]:
    """Return the unit vectors of several teachers for the same images, each times its scale, as one vector."""
    return torch.cat([scale * F.normalize(vectors, dim=1) for vectors, scale in zip(found, scales, strict=True)], dim=1)


class SideBySide:
    """Rows of several arrays side by side, each times its scale, read when they are asked for.

    The arrays may be larger than the memory, and each is that of one teacher alone, which other runs use as well.
    """

    def __init__(self, parts: Sequence[NDArray[np.float16]], scales: Sequence[float]) -> None:
        self._parts, self._scales = tuple(parts), tuple(scales)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, in float32."""
        return sum(4 * part.size for part in self._parts)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows [N D]."""
        scaled = [part[rows].astype(np.float32) * scale for part, scale in zip(self._parts, self._scales, strict=True)]
        return np.concatenate(scaled, axis=1, dtype=np.float32)


class SideBySideNetwork(nn.Module):
    """The networks of several teachers in one, to measure what they cost: each gets the images at its own size."""

    def __init__(self, networks: Sequence[nn.Module], sizes: Sequence[int]) -> None:
        super().__init__()
        self.networks, self.sizes = nn.ModuleList(networks), tuple(sizes)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> tuple[Tensor, ...]:
        """Return the vectors of every teacher."""
        resized = (F.interpolate(images, (size, size), mode="bilinear", antialias=True) for size in self.sizes)
        return tuple(network(pixels).vector for network, pixels in zip(self.networks, resized, strict=True))
