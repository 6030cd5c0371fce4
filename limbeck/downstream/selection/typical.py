"""Typical: one row from the densest place of each of the largest clusters without a label.

TypiClust: Hacohen, Dekel and Weinshall, *Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets*,
ICML 2022, algorithm 1.
"""

import numpy as np
from numpy.typing import NDArray

from limbeck.core.text import plural
from limbeck.downstream.selection.choice import Available, Choice, Choices, Rows, best
from limbeck.neighbors.graph import Graph

NEIGHBORS = 20
MIN_CLUSTER = 5
MAX_CLUSTERS = 500


def typicality(graph: Graph) -> NDArray[np.floating]:
    """Return the inverse of the mean Euclidean distance [N] of the unit vector of a row to its neighbors in `graph`."""
    return 1 / (np.sqrt(np.maximum(2 - 2 * graph.cosines.astype(np.float64), 0)).mean(axis=1) + 1e-5)


def typical(clusters: NDArray[np.int64], density: NDArray[np.floating], labeled: Rows, available: Available) -> Choices:
    """Yield the densest available row of the cluster with the fewest labeled and chosen rows; of several the largest.

    Clusters of up to `MIN_CLUSTER` rows wait until no other has an available row.

    Args:
        clusters: [N], the cluster of each row, from 0.
        density: [N], see `typicality`.
        labeled: rows with labels.
        available: [N].
    """
    sizes = np.bincount(clusters)
    chosen = np.bincount(clusters[labeled], minlength=len(sizes))
    while available.any():
        open_ = np.bincount(clusters[available], minlength=len(sizes)) > 0
        order = np.lexsort((-sizes, chosen, sizes <= MIN_CLUSTER, ~open_))
        row = best(density, available & (clusters == order[0]))
        yield Choice(row, f"typical of a cluster of {plural(int(sizes[order[0]]), 'image')}")
        chosen[order[0]] += 1
