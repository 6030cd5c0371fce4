"""Group the vectors: clusters with their typical images, and mistakes of k-NN and of a probe."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.classification.folds import held_out_folds
from limbeck.classification.heads import fit_head
from limbeck.classification.space import Space
from limbeck.metrics.knn import knn_votes
from limbeck.neighbors.graph import Graph

TYPICAL = 12  # images shown of a cluster
TEMPERATURE = 0.07  # of the vote, as in the evaluation
ROWS = 65_536  # whose votes are counted at once

Array = NDArray[np.float32]
Ints = NDArray[np.int64]


class Cluster(NamedTuple):
    """Images that are near to one center."""

    size: int
    typical: list[int]
    """Rows of the images nearest to the center, the nearest first."""
    label: int
    """The most frequent label; -1 without labels."""
    share: float
    """Of the images with that label."""


class Clusters(NamedTuple):
    """All clusters, the largest first."""

    of_image: Ints
    """[N], number of the cluster."""
    clusters: list[Cluster]


def default_clusters(images: int, classes: int) -> int:
    """Return the number of clusters: that of the classes, up to 24, or the fourth root of 8 N."""
    return max(1, min(24, images // 4, classes or round((8 * images) ** 0.25)))


def find_clusters(reduced: Array, labels: Ints, count: int, seed: int) -> Clusters:
    """Return the clusters of k-means (Lloyd's, from k-means++) among principal components [N d]."""
    from sklearn.cluster import KMeans

    fitted = KMeans(count, n_init=1, random_state=seed).fit(reduced)
    assigned, distances = fitted.labels_, np.linalg.norm(reduced - fitted.cluster_centers_[fitted.labels_], axis=1)
    order = np.argsort(-np.bincount(assigned, minlength=count), kind="stable")
    rank = np.argsort(order)
    found = [_describe(np.flatnonzero(assigned == number), distances, labels) for number in order]
    return Clusters(rank[assigned].astype(np.int64), [cluster for cluster in found if cluster.size])


def _describe(rows: Ints, distances: NDArray[np.floating], labels: Ints) -> Cluster:
    nearest = rows[np.argsort(distances[rows], kind="stable")[:TYPICAL]]
    counts = np.bincount(labels[rows][labels[rows] >= 0])
    label = int(counts.argmax()) if counts.size else -1
    share = float(counts.max()) / len(rows) if counts.size else 0.0
    return Cluster(len(rows), nearest.tolist(), label, share)


def vote(graph: Graph, labels: Ints) -> Ints:
    """Return the label that the neighbors of every image vote for, [N], as the weighted k-NN of the evaluation does.

    Neighbors without a label do not vote; -1 where none votes.
    """
    known = int(labels.max()) + 1
    blocks = [slice(start, start + ROWS) for start in range(0, len(graph.neighbors), ROWS)]
    return np.concatenate([_vote(labels[graph.neighbors[rows]], graph.cosines[rows], known) for rows in blocks])


def _vote(near: Ints, cosines: Array, known: int) -> Ints:
    labels = torch.from_numpy(np.where(near < 0, known, near))
    votes = knn_votes(torch.from_numpy(cosines), labels, known + 1, TEMPERATURE)[:, :-1]
    predicted: Ints = votes.argmax(dim=1).numpy()
    return np.where((votes.sum(dim=1) > 0).numpy(), predicted, -1)


def held_out_predictions(features: Array, labels: Ints, seed: int) -> Ints:
    """Return the label [N] that a linear probe gives to every image, fitted to four fifths of the others; -1 for none.

    The probe is ridge regression as in `limbeck classify`. Images without a label, and single ones of their class, are
    not predicted; none is where there is nothing to fit.
    """
    labeled, predicted = np.flatnonzero(labels >= 0), np.full(len(labels), -1)
    known, varied = labels[labeled], bool((features != features[:1]).any())
    if len(np.unique(known)) < 2 or not varied:
        return predicted
    points = Space.fit(features, seed)(torch.from_numpy(features[labeled]))
    for held_out in held_out_folds(known, seed):
        rows = torch.from_numpy(np.flatnonzero(~held_out))
        head = fit_head("ridge", points[rows], torch.from_numpy(known[~held_out]), int(known.max()) + 1)
        predicted[labeled[held_out]] = head(points[torch.from_numpy(held_out)]).argmax(dim=1).numpy()
    return predicted


def agreement(graph: Graph, labels: Ints, k: int) -> float:
    """Return the fraction of the nearest `k` neighbors of all labeled images that have the label of their image."""
    rows = np.flatnonzero(labels >= 0)
    return float((labels[graph.neighbors[rows, :k]] == labels[rows, None]).mean()) if len(rows) else 0.0
