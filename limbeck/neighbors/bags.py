"""Bags: for every image the mates that a student learns to resemble along with it.

Xu et al., *Bag of Instances Aggregation Boosts Self-supervised Distillation*, ICLR 2022, section 3.2 (haohang96/bingo):
bags are the K nearest neighbours, or the members of the own cluster. Unlike the authors' code, which drops the first
hit of a search whatever it is, an image is excluded by its number, and copies of it do not push it into its own bag.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.augment.params import hash_uniforms
from limbeck.neighbors.graph import Graph
from limbeck.neighbors.search import nearest
from limbeck.neighbors.vectors import BLOCK, Features, UnitVectors

Bags = NDArray[np.int32]
"""[n K]: the mates of n rows, by their numbers in the features."""

PER_CLUSTER = 50
ITERATIONS = 25


def knn_bags(graph: Graph) -> Bags:
    """The neighbours of each row; where fewer than K are left they repeat, and a row without any is its own mate."""
    left = (graph.rows >= 0).sum(axis=1)[:, None]
    column = np.arange(graph.rows.shape[1]) % np.maximum(left, 1)
    mates = np.take_along_axis(graph.rows, column, axis=1)
    return np.where(left > 0, mates, graph.of[:, None]).astype(np.int32)


def cluster_bags(clusters: NDArray[np.int64], k: int, seed: int = 0, rows: NDArray[np.int64] | None = None) -> Bags:
    """Up to `k` members of the own cluster other than the row itself, each set of them equally likely.

    A cluster of fewer repeats them; a row that is alone in its cluster is its own mate.

    Args:
        clusters: [n], the cluster of each row.
        k: how many mates.
        seed: of the draw, which is a hash of it and of the row.
        rows: the numbers [n] of the rows; None: 0 to n - 1.
    """
    order = np.argsort(clusters, kind="stable")
    sizes = np.bincount(clusters)
    first = (np.cumsum(sizes) - sizes)[clusters]  # where the own cluster begins in `order`
    place = np.argsort(order) - first
    size = sizes[clusters]
    steps = 1 + _distinct(size - 1, k, seed)  # ahead within the cluster, round its end: never 0 but for one alone
    mates = order[first[:, None] + (place[:, None] + steps) % size[:, None]]
    return (mates if rows is None else rows[mates]).astype(np.int32)


def kmeans(
    features: Features,
    clusters: int | None = None,
    *,
    rows: NDArray[np.int64] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> NDArray[np.int64]:
    """Spherical k-means: the cluster [n] of every row, after at most `ITERATIONS` rounds.

    Centres start as rows drawn by `seed` and become the directions of the sums of their members' unit rows; a centre
    without members becomes the row that is furthest from its own. A function of features and seed, whatever the blocks.

    Args:
        features: as for `neighbours`.
        clusters: how many; None: one for every `PER_CLUSTER` rows.
        rows: increasing numbers of the rows that take part; None: all.
        seed: of the first centres.
        device: where products are computed.
    """
    vectors = UnitVectors(features, rows, torch.device(device))
    count = min(clusters or max(1, len(vectors) // PER_CLUSTER), len(vectors))
    start = np.argsort(hash_uniforms(seed, 0, 0, np.arange(len(vectors)), 1)[:, 0], kind="stable")[:count]
    centres = vectors.unit(torch.from_numpy(np.sort(start)).to(vectors.device)).cpu().double()
    own = None
    for _ in range(ITERATIONS):
        before, found = own, nearest(UnitVectors(centres, None, vectors.device), 1, vectors)
        own = found.rows[:, 0].cpu()
        if before is not None and torch.equal(before, own):
            break
        centres = _moved(centres, vectors, own, found.cosines[:, 0].cpu())
    assert own is not None
    return own.numpy()


def _moved(centres: torch.Tensor, vectors: UnitVectors, own: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
    """Directions [C D] of the sums of members, on the CPU in float64, where the order of a sum is that of the rows."""
    sums = torch.zeros_like(centres)
    for start in range(0, len(own), BLOCK):
        part = slice(start, start + BLOCK)
        sums.index_add_(0, own[part], vectors.unit(part).cpu().double())
    sizes = torch.bincount(own, minlength=len(centres))
    furthest = iter(torch.argsort(cosines, stable=True).tolist())
    for empty in (sizes == 0).nonzero()[:, 0].tolist():
        row = next(row for row in furthest if sizes[own[row]] > 1)
        sizes[own[row]] -= 1
        sums[empty] = vectors.unit(slice(row, row + 1))[0].cpu()
    lengths = torch.linalg.vector_norm(sums, dim=1, keepdim=True)
    return torch.where(lengths > 1e-6, sums / lengths.clamp_min(1e-6), centres)  # members may cancel out


def _distinct(options: NDArray[np.int64], k: int, seed: int) -> NDArray[np.int64]:
    """[n k] numbers from 0 to options - 1, different ones in a row as long as there are enough; 0 without options.

    Floyd's sample (Bentley and Floyd, *A sample of brilliance*, CACM 1987); where there are too few, all of them in
    turn from a random one on.
    """
    uniform = hash_uniforms(seed, 0, 1, np.arange(len(options)), k)
    taken = np.full((len(options), k), -1)
    for step in range(k):
        last = options - k + step
        drawn = (uniform[:, step] * (last + 1)).astype(np.int64)
        again = (taken[:, :step] == drawn[:, None]).any(axis=1)
        taken[:, step] = np.where(again, last, drawn)
    few = (options < k)[:, None]
    size = np.maximum(options, 1)[:, None]
    return np.where(few, ((uniform[:, :1] * size).astype(np.int64) + np.arange(k)) % size, taken)
