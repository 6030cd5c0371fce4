"""k-center: choose the row that is farthest from everything labeled and chosen, again and again.

The greedy 2-approximation of the smallest covering radius (Gonzalez 1985), as Sener and Savarese use it (*Active
Learning for Convolutional Neural Networks: A Core-Set Approach*, ICLR 2018, algorithm 1).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.downstream.selection.choice import Available, Choice, Choices, Rows, best

BLOCK = 4096
Points = NDArray[np.floating]
"""[N D]"""


def k_center(points: Points, labeled: Rows, available: Available) -> Choices:
    """Yield the available row with the largest Euclidean distance to the nearest labeled or chosen one.

    Of equal distances the smallest row comes first. Without labeled rows, the first one is the row nearest to the mean.
    """
    distances = nearest_distances(points, labeled)
    while available.any():
        if np.isinf(distances).all():
            row, reason = best(-np.linalg.norm(points - points.mean(axis=0), axis=1), available), "nearest to the mean"
        else:
            row = best(distances, available)
            reason = f"distance {distances[row]:.3g} to the nearest labeled or chosen image"
        yield Choice(row, reason)
        distances = np.minimum(distances, nearest_distances(points, np.array([row])))


def nearest_distances(points: Points, centers: Rows) -> NDArray[np.floating]:
    """Return the Euclidean distance [N] of every point to the nearest of the rows `centers`; inf without any."""
    if not len(centers):
        return np.full(len(points), np.inf)
    base = torch.from_numpy(points[centers])
    blocks = torch.from_numpy(points).split(BLOCK)
    return torch.cat([_distances(block, base).amin(dim=1) for block in blocks]).numpy()


def _distances(points: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Return distances from differences: those from products of float32 lose the digits of small ones."""
    return torch.cdist(points, base, compute_mode="donot_use_mm_for_euclid_dist")
