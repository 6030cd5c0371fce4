"""Clusters of points, by k-means."""

import warnings

import numpy as np
from numpy.typing import NDArray

from limbeck.downstream.selection.k_center import Points

STARTS = 5


def cluster(points: Points, count: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster [N] of every point: the best of `STARTS` k-means++ starts and Lloyd's iterations.

    There are at most as many clusters as different points. scikit-learn's, on one thread, so that the sums have one
    order.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters
        model = KMeans(min(count, len(points)), n_init=STARTS, random_state=seed).fit(points)
    found: NDArray[np.int64] = model.labels_.astype(np.int64)
    return found
