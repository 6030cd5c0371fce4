"""Bags: for every image the related images that are positives of it during distillation (BINGO).

Xu et al., *Bag of Instances Aggregation Boosts Self-supervised Distillation*, ICLR 2022, section 3.2 (haohang96/bingo):
a bag holds the K nearest neighbors of an image or members of its cluster. The authors' code drops the first hit of a
search, whatever it is; here an image is excluded by its index, so a copy of it cannot push the image into its own bag.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.neighbors.graph import Graph
from limbeck.neighbors.search import nearest
from limbeck.neighbors.vectors import BLOCK, FeatureMatrix, UnitVectors

Bags = NDArray[np.int32]
"""[n K]: the bag of each of n images, as indices into the feature matrix."""

IMAGES_PER_CLUSTER = 50
MAX_ITERATIONS = 25


def knn_bags(graph: Graph) -> Bags:
    """Return the neighbors of each row; fewer than K repeat, and a row without neighbors is its own bag."""
    available = (graph.neighbors >= 0).sum(axis=1)[:, None]
    column = np.arange(graph.neighbors.shape[1]) % np.maximum(available, 1)
    bags = np.take_along_axis(graph.neighbors, column, axis=1)
    return np.where(available > 0, bags, graph.indices[:, None]).astype(np.int32)


def cluster_bags(clusters: NDArray[np.int64], k: int, seed: int = 0, indices: NDArray[np.int64] | None = None) -> Bags:
    """Return up to `k` members of the same cluster for each row, itself excluded, every subset equally likely.

    The members of a smaller cluster repeat; a row that is alone in its cluster is its own bag.

    Args:
        clusters: [n], the cluster of each row.
        k: images per bag.
        seed: of the sample, which is a hash of the seed and the row.
        indices: [n], the index of each row in the feature matrix; None for 0 to n - 1.
    """
    order = np.argsort(clusters, kind="stable")
    sizes = np.bincount(clusters)
    first = (np.cumsum(sizes) - sizes)[clusters]  # where the row's cluster begins in `order`
    place = np.argsort(order) - first
    size = sizes[clusters]
    steps = 1 + _sample_distinct(size - 1, k, seed)  # forward within the cluster, cyclic; 0 only in a cluster of one
    members = order[first[:, None] + (place[:, None] + steps) % size[:, None]]
    return (members if indices is None else indices[members]).astype(np.int32)


def kmeans(
    features: FeatureMatrix,
    clusters: int | None = None,
    *,
    indices: NDArray[np.int64] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> NDArray[np.int64]:
    """Return the cluster [n] of every row by spherical k-means, after at most `MAX_ITERATIONS` iterations.

    Centers start as rows sampled with `seed` and become the directions of the sums of their members' unit vectors; an
    empty cluster restarts at the row that is farthest from its center. The result depends on features and seed alone.

    Args:
        features: as for `build_graph`.
        clusters: the number of clusters; None for one per `IMAGES_PER_CLUSTER` rows.
        indices: increasing indices of the rows that take part; None for all.
        seed: of the initial centers.
        device: where products are computed.
    """
    vectors = UnitVectors(features, indices, torch.device(device))
    count = min(clusters or max(1, len(vectors) // IMAGES_PER_CLUSTER), len(vectors))
    start = np.argsort(hash_uniforms(seed, 0, 0, np.arange(len(vectors)), 1)[:, 0], kind="stable")[:count]
    centers = vectors.unit(torch.from_numpy(np.sort(start)).to(vectors.device)).cpu().double()
    assignment = None
    for _ in range(MAX_ITERATIONS):
        previous, found = assignment, nearest(UnitVectors(centers, None, vectors.device), 1, vectors)
        assignment = found.positions[:, 0].cpu()
        if previous is not None and torch.equal(previous, assignment):
            break
        centers = _update_centers(centers, vectors, assignment, found.scores[:, 0].cpu())
    assert assignment is not None
    return assignment.numpy()


def _update_centers(
    centers: torch.Tensor, vectors: UnitVectors, assignment: torch.Tensor, cosines: torch.Tensor
) -> torch.Tensor:
    """Return the new centers [C D], summed on the CPU in float64 in the order of the rows, so that no device shows."""
    sums = torch.zeros_like(centers)
    for start in range(0, len(assignment), BLOCK):
        block = slice(start, start + BLOCK)
        sums.index_add_(0, assignment[block], vectors.unit(block).cpu().double())
    sizes = torch.bincount(assignment, minlength=len(centers))
    farthest = iter(torch.argsort(cosines, stable=True).tolist())
    for empty in (sizes == 0).nonzero()[:, 0].tolist():
        row = next(row for row in farthest if sizes[assignment[row]] > 1)
        sizes[assignment[row]] -= 1
        sums[empty] = vectors.unit(slice(row, row + 1))[0].cpu()
    lengths = torch.linalg.vector_norm(sums, dim=1, keepdim=True)
    return torch.where(lengths > 1e-6, sums / lengths.clamp_min(1e-6), centers)  # members may cancel out


def _sample_distinct(options: NDArray[np.int64], k: int, seed: int) -> NDArray[np.int64]:
    """Return [n k] numbers from 0 to options - 1, distinct in a row while there are enough; 0 without options.

    Floyd's sample (Bentley and Floyd, *A sample of brilliance*, CACM 1987). With fewer than k options, all of them
    follow in turn from a random one on.
    """
    uniform = hash_uniforms(seed, 0, 1, np.arange(len(options)), k)
    taken = np.full((len(options), k), -1)
    for step in range(k):
        last = options - k + step
        drawn = (uniform[:, step] * (last + 1)).astype(np.int64)
        repeated = (taken[:, :step] == drawn[:, None]).any(axis=1)
        taken[:, step] = np.where(repeated, last, drawn)
    few = (options < k)[:, None]
    size = np.maximum(options, 1)[:, None]
    return np.where(few, ((uniform[:, :1] * size).astype(np.int64) + np.arange(k)) % size, taken)
