"""Measure how well chosen rows cover the others, compared with a random choice of as many."""

from dataclasses import dataclass

import numpy as np

from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.downstream.selection.choice import Rows
from limbeck.downstream.selection.k_center import Points, nearest_distances

DRAWS = 10
"""Random choices that are averaged."""


@dataclass(frozen=True, kw_only=True)
class Covering:
    """Distances of all rows to the nearest labeled or chosen one, in the space of `geometry`."""

    radius: float
    """The largest one."""
    mean: float
    random_radius: float
    """Mean of `radius` over `DRAWS` random choices."""
    random_mean: float

    def sentence(self) -> str:
        """Return the four numbers in words."""
        return (
            f"distance of an image to the nearest labeled or chosen one: {self.mean:.3f} on average and "
            f"{self.radius:.3f} at most (the covering radius); with a random choice {self.random_mean:.3f} and "
            f"{self.random_radius:.3f}"
        )


def covering(points: Points, labeled: Rows, chosen: Rows, seed: int) -> Covering:
    """Measure a choice, and random choices of as many rows."""
    already = nearest_distances(points, labeled)
    unlabeled = np.setdiff1d(np.arange(len(points)), labeled)
    draws = [unlabeled[random_order(len(unlabeled), seed, draw)[: len(chosen)]] for draw in range(1, DRAWS + 1)]
    found = [np.minimum(already, nearest_distances(points, rows)) for rows in (chosen, *draws)]
    (radius, mean), *others = [(float(distances.max()), float(distances.mean())) for distances in found]
    random_radius, random_mean = np.mean(others, axis=0).tolist()
    return Covering(radius=radius, mean=mean, random_radius=random_radius, random_mean=random_mean)


def random_order(count: int, seed: int, draw: int = 0) -> Rows:
    """Return a random order of `count` rows; the first rows of it are a smaller choice of the same seed."""
    return np.argsort(hash_uniforms(seed, draw, 0, np.arange(count), 1)[:, 0], kind="stable")
