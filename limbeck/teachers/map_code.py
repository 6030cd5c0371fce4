"""Feature maps of a teacher in few bytes: unit vectors on their principal axes, as integers of 8 bits.

The dense term compares cosines between positions, so that the length of a vector may be anything: the largest of its
numbers becomes 127. A map of 14 x 14 positions takes 12.5 KB, where float16 numbers of a ViT-B take 301 KB.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor

COMPONENTS = 64
LARGEST = 127


class MapAxes(NamedTuple):
    """Axes that vectors at positions are projected on, and how much of them these have."""

    axes: Float[Tensor, "C K"]
    share: float  # of the squares of the vectors


def principal_axes(maps: Iterable[Float[Tensor, "B C H W"]], components: int = COMPONENTS) -> MapAxes:
    """Return the principal axes of the unit vectors of some maps, about the origin, because cosines are about it."""
    total: Tensor | None = None
    for batch in maps:
        rows = F.normalize(batch.double(), dim=1).transpose(0, 1).flatten(1)
        total = rows @ rows.mT + (0 if total is None else total)
    assert total is not None, "axes need a map"
    values, vectors = torch.linalg.eigh(total)
    largest = vectors[:, -components:].flip(1)
    return MapAxes(largest.float(), (values[-components:].sum() / values.sum()).item())


def encode_maps(maps: Float[Tensor, "B C H W"], axes: Float[Tensor, "C K"]) -> Int8[Tensor, "B K H W"]:
    """Return the direction of the vector at each position, on the axes."""
    found = torch.einsum("bchw,ck->bkhw", F.normalize(maps, dim=1), axes)
    return (LARGEST * F.normalize(found, p=torch.inf, dim=1)).round().to(torch.int8)
