"""Near-duplicates: images that look alike within a store, and images of one store that another holds as well."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from limbeck.data.store.store import Store
from limbeck.neighbors.graph import Graph, Say, neighbours
from limbeck.neighbors.search import nearest
from limbeck.neighbors.vectors import Features, UnitVectors

ABOVE = 0.95
"""Cosine of thumbnails from which on images count as near-duplicates; docs/neighbours.md says how it was chosen."""

NEIGHBOURS = 5  # joins all copies of an image into one group, for the smaller of equal rows come first
GREY, COLOUR = 16, 4  # sides of the two thumbnails
CONTRAST = 1 / 255  # of an image that counts as blank: less is noise
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"
BATCH = 1024

Describe = Callable[[Store], Features]
"""From a store to a vector for each of its rows, whose cosines say how much two images look alike."""


class Matches(NamedTuple):
    """Rows with a near-duplicate, each with the one that is most alike."""

    rows: NDArray[np.int64]  # [m], increasing
    others: NDArray[np.int64]  # [m]
    cosines: NDArray[np.float32]  # [m]
    groups: NDArray[np.int64] | None = None  # [m], from 0: rows that are joined by a chain of near-duplicates share one


def thumbnails(store: Store) -> NDArray[np.float16]:
    """What an image looks like from afar, [N 289] float16, without a network.

    Its grey values on 16 x 16 cells, without their mean; red and blue beyond the grey on 4 x 4 cells, without their
    means, times 4, because such a cell covers 16 of the others; and one grey level of contrast that all images share,
    beside which the noise of a blank image is nothing, so that blank images are alike. Cosines of these vectors do not
    see brightness and contrast, hardly see a new compression or size, and do see a crop, a flip and another colour.
    """
    parts = [_thumbnails(store.images[start : start + BATCH]) for start in range(0, len(store), BATCH)]
    return np.concatenate(parts).astype(np.float16)


def duplicates(features: Features, above: float = ABOVE, say: Say = lambda sentence: None) -> Matches:
    """Rows of `features` [N D] whose nearest other row has a cosine of at least `above`, in groups.

    A chain of near-duplicates goes through the `NEIGHBOURS` nearest of each row; for `say` see `neighbours`.
    """
    if len(features) < 2:
        none = np.empty(0, np.int64)
        return Matches(none, none, none.astype(np.float32), none)
    graph = neighbours(features, min(NEIGHBOURS, len(features) - 1), say=say)
    matches = _matches(graph.rows, graph.cosines, above)
    return matches._replace(groups=_groups(graph, above)[matches.rows])


def leaks(features: Features, against: Features, above: float = ABOVE) -> Matches:
    """Rows of `features` [N D] whose nearest row of `against` [M D] has a cosine of at least `above`."""
    device = torch.device("cpu")
    found = nearest(UnitVectors(against, None, device), 1, UnitVectors(features, None, device))
    return _matches(found.rows.numpy(), found.cosines.numpy(), above)


def _matches(rows: NDArray[np.integer], cosines: NDArray[np.float32], above: float) -> Matches:
    alike = (cosines[:, 0] >= above).nonzero()[0]
    return Matches(alike, rows[alike, 0].astype(np.int64), cosines[alike, 0])


def _groups(graph: Graph, above: float) -> NDArray[np.int64]:
    """[n], numbers of groups in the order of their first rows; those of rows without a near-duplicate mean nothing."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    row, column = (graph.cosines >= above).nonzero()
    size = len(graph.rows)
    edges = coo_array((np.ones(len(row)), (row, graph.rows[row, column])), shape=(size, size))
    labels = connected_components(edges, directed=False)[1]
    numbers = np.full(size, -1)
    numbers[row] = np.unique(labels[row], return_inverse=True)[1]
    return numbers


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    luma = torch.tensor(LUMA)[:, None, None]
    grayscale = F.adaptive_avg_pool2d((pixels * luma).sum(dim=1, keepdim=True), GREY)
    coarse = F.adaptive_avg_pool2d(pixels, COLOUR)
    colour = (coarse - (coarse * luma).sum(dim=1, keepdim=True))[:, [0, 2]] * (GREY / COLOUR)
    flat = [(x - x.mean(dim=(2, 3), keepdim=True)).flatten(1) for x in (grayscale, colour)]
    return torch.cat([*flat, torch.full((len(pixels), 1), GREY * CONTRAST)], dim=1).numpy()
