"""The rows among which is chosen, and what the strategies need of them, computed when it is needed."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.classification.logistic import fit_logistic
from limbeck.downstream.selection.choice import Available, Choices, Rows, in_order
from limbeck.downstream.selection.clusters import cluster
from limbeck.downstream.selection.coverage import ball_graph, coverage, pure_cosine
from limbeck.downstream.selection.covering import random_order
from limbeck.downstream.selection.k_center import k_center
from limbeck.downstream.selection.typical import MAX_CLUSTERS, NEIGHBORS, typical, typicality
from limbeck.downstream.selection.uncertainty import by_entropy, by_margin
from limbeck.neighbors.graph import build_graph
from limbeck.neighbors.vectors import UnitVectors

INVERSE_PENALTY = 10.0
"""Of the logistic regression of unit vectors that entropy and margin are of."""


class Pool:
    """N points, of which some have labels.

    Args:
        points: [N C], unit vectors.
        labels: [N], -1 where there is none.
        budget: rows that will be chosen.
        seed: of clusters and of the random order.
    """

    def __init__(self, points: Float[Tensor, "N C"], labels: NDArray[np.int64], budget: int, seed: int) -> None:
        self.points: NDArray[np.float32] = points.numpy()
        self.labels, self.budget, self.seed = labels, budget, seed
        self.labeled: Rows = np.flatnonzero(labels >= 0)

    def choices(self, strategy: str, available: Available) -> Choices:
        """Yield the choices of a strategy among the rows that are `available`."""
        kinds = {
            "typical": self._typical,
            "coverage": self._coverage,
            "k-center": lambda available: k_center(self.points, self.labeled, available),
            "entropy": lambda available: by_entropy(self._logits(), available),
            "margin": lambda available: by_margin(self._logits(), available),
            "random": lambda available: in_order(random_order(len(self.points), self.seed), "random", available),
        }
        return kinds[strategy](available)

    def _typical(self, available: Available) -> Choices:
        clusters = cluster(self.points, min(len(self.labeled) + self.budget, MAX_CLUSTERS), self.seed)
        graph = build_graph(self.points, min(NEIGHBORS, len(self.points) - 1))
        return typical(clusters, typicality(graph), self.labeled, available)

    def _coverage(self, available: Available) -> Choices:
        vectors = UnitVectors(self.points, None, torch.device("cpu"))
        clusters = cluster(self.points, min(len(self.labeled) + self.budget, MAX_CLUSTERS), self.seed)
        balls = ball_graph(vectors, pure_cosine(vectors, clusters))
        return coverage(balls, self.labeled, available)

    def _logits(self) -> NDArray[np.float32]:
        labels, points = torch.from_numpy(self.labels), torch.from_numpy(self.points)
        rows = torch.from_numpy(self.labeled)
        names, numbers = labels[rows].unique(return_inverse=True)
        found: NDArray[np.float32] = fit_logistic(points[rows], numbers, len(names), INVERSE_PENALTY, intercept=False)(
            points
        ).numpy()
        return found
