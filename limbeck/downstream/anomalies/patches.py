"""A memory of places of feature maps, and how far the places of other maps are from it.

PatchCore: Roth, Pemula, Zepeda, Schölkopf, Brox and Gehler, *Towards Total Recall in Industrial Anomaly Detection*,
CVPR 2022. A patch is the mean of 3 x 3 places of a map (eq. 2); the memory is a k-center coreset of the patches of all
images (algorithm 1); the score of an image is the largest distance of its patches to the memory (eq. 6, without the
weights of eq. 7). Deviations: one depth is used, and places beyond the border do not enter the mean. The patches of an
image are not compared with its own, which the memory has where it is of the same images.
"""

from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.progress import progress, progress_bar
from limbeck.downstream.anomalies.config import CANDIDATES
from limbeck.downstream.selection.covering import random_order
from limbeck.downstream.selection.k_center import k_center

PROJECTED = 128  # random directions in which candidates are compared, as in the paper
NUMBERS = 2**24  # numbers of maps, or distances, that are held at once
Maps = Float[NDArray[np.float32], "N C H W"]
"""In memory or mapped."""


class PatchMemory(NamedTuple):
    """Patches that stand for those of a set of images."""

    vectors: Float[Tensor, "M C"]
    images: Int[Tensor, " M"]
    """Number of the image that each patch is from, the same for identical images."""

    def distances(self, maps: Float[Tensor, "B C H W"], images: Int[Tensor, " B"]) -> Float[Tensor, "B H W"]:
        """Return the Euclidean distance of every patch to the nearest one of the memory.

        Args:
            maps: feature maps.
            images: numbers of the images that they are of; patches of the same image do not count.

        Raises:
            UserError: all patches of the memory are an image's own.
        """
        found = patch_distances(maps, self.vectors)
        found = found.masked_fill((self.images == images[:, None])[:, None, None], torch.inf)
        if bool(found.isinf().all(dim=3).any()):
            raise UserError(
                f"all {len(self.vectors)} places of the memory are of one image, which cannot be compared with itself: "
                "take a larger memory",
                code="memory-too-small",
            )
        return found.amin(dim=3)

    def distance_maps(
        self, maps: Maps, images: NDArray[np.int64], description: str = ""
    ) -> Float[NDArray[np.float32], "N H W"]:
        """Return the distances of the patches of all maps, block by block.

        The numbers `images` [N] are those of `distances`; `description` is the text of a progress bar.
        """
        count, channels, height, width = maps.shape
        found = np.empty((count, height, width), np.float32)
        blocks = _blocks(count, height * width * max(len(self.vectors), channels))
        for rows in progress(blocks, description, unit="images", size=lambda rows: rows.stop - rows.start):
            own = torch.from_numpy(images[rows])
            found[rows] = self.distances(torch.from_numpy(np.array(maps[rows])), own).numpy()
        return found


def patch_distances(maps: Float[Tensor, "B C H W"], memory: Float[Tensor, "M C"]) -> Float[Tensor, "B H W M"]:
    """Return the Euclidean distance of every patch to every one of the memory, from products of centered vectors.

    Without `torch.cdist`, which ONNX does not have.
    """
    center = memory.mean(dim=0)
    patches, base = _patches(maps) - center, memory - center
    squares = patches.square().sum(dim=3, keepdim=True) + base.square().sum(dim=1)
    return (squares - 2 * (patches @ base.T)).clamp_min(0).sqrt()


def remember(maps: Maps, images: NDArray[np.int64], size: int, seed: int = 0) -> PatchMemory:
    """Return a memory of `size` patches of the maps, or of all if there are fewer.

    Of 20,000 patches that are drawn with the seed, the one nearest to their mean is chosen first, and then, again and
    again, the one farthest from those that were chosen, in 128 random directions. The maps are of images with the
    numbers `images` [N], the same for identical ones.
    """
    count, channels, *square = maps.shape
    places = int(np.prod(square))
    drawn = np.sort(random_order(count * places, seed)[:CANDIDATES])
    parts = []
    blocks = _blocks(count, places * channels)
    for rows in progress(blocks, "reading feature maps", unit="images", size=lambda rows: rows.stop - rows.start):
        patches = _patches(torch.from_numpy(np.array(maps[rows]))).flatten(0, 2)
        first = rows.start * places
        inside = drawn[(drawn >= first) & (drawn < first + len(patches))] - first
        parts.append(patches[torch.from_numpy(inside)])
    candidates = torch.cat(parts)
    chosen = _spread(_project(candidates, seed), size)
    return PatchMemory(candidates[chosen], torch.from_numpy(images[drawn // places])[chosen])


def _spread(points: Float[Tensor, "N d"], size: int) -> Int[Tensor, " M"]:
    available, chosen = np.ones(len(points), bool), list[int]()
    choices = islice(k_center(points.numpy(), np.empty(0, np.int64), available), size)
    with progress_bar(min(size, len(points)), "choosing the memory", unit="patches") as bar:
        for choice in choices:
            available[choice.row] = False
            chosen.append(choice.row)
            bar.advance()
    return torch.tensor(chosen)


def _project(vectors: Float[Tensor, "N C"], seed: int) -> Float[Tensor, "N d"]:
    """Return Gaussian random projections, which preserve distances up to a few percent."""
    channels = vectors.shape[1]
    if channels <= PROJECTED:
        return vectors
    generator = torch.Generator().manual_seed(seed)
    return vectors @ torch.randn(channels, PROJECTED, generator=generator) / PROJECTED**0.5


def _patches(maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B H W C"]:
    """Return the mean of every place of a map and of those around it."""
    return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False).permute(0, 2, 3, 1)


def _blocks(count: int, numbers: int) -> list[slice]:
    """Return the rows in blocks, where a row takes so many numbers."""
    size = max(1, NUMBERS // numbers)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
