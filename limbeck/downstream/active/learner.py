"""Protocol of a classifier that chooses the next images to label."""

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.classification.heads import Head, fit_head
from limbeck.classification.space import Space
from limbeck.data.store.store import Store
from limbeck.downstream.active.oracle import Labels
from limbeck.downstream.selection.choice import Rows
from limbeck.downstream.selection.config import SelectConfig
from limbeck.downstream.selection.select import Selected, select_rows
from limbeck.neighbors.near_duplicates import thumbnails


class Learner(Protocol):
    """Learns from the images with known labels; labels are [N], with -1 where none may be used."""

    def start(self, known: Labels) -> Selected:
        """Choose the first images, when none has a label."""

    def fit(self, known: Labels, cycle: int) -> None:
        """Learn from the images with a known label, and from nothing that was learnt before."""

    def predict(self, rows: Rows) -> Labels:
        """Return the classes that the learnt classifier gives to images."""

    def choose(self, known: Labels, cycle: int) -> Selected:
        """Choose the next images."""

    def close(self, cycle: int) -> None:
        """Forget what only the continuation of a stopped cycle needs."""


def cycle_seed(seed: int, cycle: int) -> int:
    """Return the seed of a cycle: of its weights, of its random numbers and of its pool."""
    return int(np.random.SeedSequence((seed, cycle)).generate_state(1)[0]) >> 1


class FrozenLearner:
    """Ridge regression on the features of a frozen network, with any strategy of `limbeck.downstream.selection`.

    Args:
        store: the images.
        features: [N D], of all of them.
        rows: images that may be chosen.
        cfg: strategy, budget, pool and seed.
    """

    def __init__(self, store: Store, features: NDArray[np.float32], rows: Rows, cfg: SelectConfig) -> None:
        self.store, self.features, self.rows, self.cfg = store, features, rows, cfg
        self.space = Space.fit(features, cfg.seed)
        self.head: Head | None = None

    def start(self, known: Labels) -> Selected:
        """Choose with the strategy, or at random if that needs labels."""
        return self._select(known, self.cfg.for_start())

    def fit(self, known: Labels, cycle: int) -> None:
        """Fit the head."""
        labeled = np.flatnonzero(known >= 0)
        classes = int(known.max()) + 1
        self.head = fit_head("ridge", self._points(labeled), torch.from_numpy(known[labeled]), classes)

    def predict(self, rows: Rows) -> Labels:
        """Return the class with the largest score."""
        assert self.head is not None, "`fit` comes first"
        found: Labels = self.head(self._points(rows)).argmax(dim=1).numpy()
        return found

    def choose(self, known: Labels, cycle: int) -> Selected:
        """Choose with the strategy, in a pool of its own in every cycle."""
        return self._select(known, replace(self.cfg, seed=cycle_seed(self.cfg.seed, cycle)))

    def close(self, cycle: int) -> None:
        """Nothing is stored."""

    def _select(self, known: Labels, cfg: SelectConfig) -> Selected:
        rows = self.rows
        found = select_rows(
            self.features[rows], cfg, known[rows], lambda indices: thumbnails(self.store, rows[indices])
        )
        return found._replace(rows=rows[found.rows])

    def _points(self, rows: Rows) -> Float[Tensor, "M C"]:
        return self.space(torch.from_numpy(self.features[rows]))
