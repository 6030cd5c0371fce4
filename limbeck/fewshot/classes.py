"""The classes of labeled images, divided into those of the training and those of the test, and episodes of each."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.data.augment.draw import hash_uniforms
from limbeck.data.store.store import Store
from limbeck.fewshot.config import EpisodesConfig
from limbeck.metrics.few_shot import Episodes, draw_episodes

LEAST = 2
"""Classes of an episode at least, and so of either part."""
Part = NDArray[np.int64]
"""Class indices, increasing."""


class Classes(NamedTuple):
    """The label of every image, and the two parts of the classes."""

    labels: NDArray[np.int64]  # [N]
    base: Part  # of the training
    novel: Part  # of the test

    @classmethod
    def split(cls, store: Store, cfg: EpisodesConfig) -> Self:
        """Divide the classes of a store at random.

        Raises:
            UserError: an image has no label, or there are fewer than four classes.
        """
        if not store.labeled:
            raise UserError(
                "episodes need a label for every image: put each class into its own sub-folder", code="labels-needed"
            )
        found = np.unique(store.labels)
        if len(found) < 2 * LEAST:
            raise UserError(
                f"episodes need {LEAST} classes for the training and {LEAST} others for the test, and there are "
                f"{len(found)}: add classes",
                code="too-few-classes",
            )
        order = np.argsort(hash_uniforms(cfg.seed, 0, 0, found, 1)[:, 0], kind="stable")
        novel = min(max(round(cfg.novel * len(found)), LEAST), len(found) - LEAST)
        return cls(np.asarray(store.labels), np.sort(found[order[novel:]]), np.sort(found[order[:novel]]))

    def rows(self, part: Part) -> NDArray[np.int64]:
        """Return the rows of some classes."""
        return np.flatnonzero(np.isin(self.labels, part))

    def train_episodes(self, cfg: EpisodesConfig) -> Episodes:
        """Return the episodes of the training, [steps way images] rows."""
        return self._episodes(self.base, cfg, cfg.steps, 2 * cfg.seed)

    def test_episodes(self, cfg: EpisodesConfig) -> Episodes:
        """Return the episodes of the test, [episodes way images] rows."""
        return self._episodes(self.novel, cfg, cfg.episodes, 2 * cfg.seed + 1)

    def _episodes(self, part: Part, cfg: EpisodesConfig, count: int, seed: int) -> Episodes:
        rows = self.rows(part)
        found = draw_episodes(self.labels[rows], cfg.shot, way=cfg.way, queries=cfg.queries, count=count, seed=seed)
        if found is None:
            raise UserError(
                f"an episode has {cfg.shot} labeled images of each of {min(cfg.way, len(part))} classes and at least "
                "one more to classify, and some classes have fewer: add images, or choose a smaller --shot or --way",
                code="too-few-images",
            )
        episodes: Episodes = rows[found]
        return episodes
