"""The classes of labeled images, divided into those of the training and those of the test, and episodes of each."""

import logging
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.data.store.store import Store
from limbeck.downstream.fewshot.config import EpisodesConfig
from limbeck.metrics.few_shot import WAY, Episodes, draw_episodes

logger = logging.getLogger(__name__)

LEAST = 2
"""Classes of an episode at least, and so of either part."""
Part = NDArray[np.int64]
"""Class indices, increasing."""


class Classes(NamedTuple):
    """The label of every image, and the two parts of the classes."""

    labels: NDArray[np.int64]  # [N]
    base: Part  # of the training
    novel: Part  # of the test
    way: int  # classes of an episode

    @classmethod
    def split(cls, store: Store, cfg: EpisodesConfig) -> Self:
        """Divide the classes of a store at random.

        Raises:
            UserError: an image has no label, there are fewer than four classes, or too few in a part of them.
        """
        if not store.labeled:
            raise UserError(
                f"episodes need a label for every image: put each class into its own sub-folder, {2 * LEAST} at least",
                code="labels-needed",
            )
        found = np.unique(store.labels)
        if len(found) < 2 * LEAST:
            raise UserError(
                f"episodes need {LEAST} classes for the training and {LEAST} others for the test, and there are "
                f"{len(found)}: add classes",
                code="too-few-classes",
            )
        order = np.argsort(hash_uniforms(cfg.seed, 0, 0, found, 1)[:, 0], kind="stable")
        novel = _count_novel(cfg.novel, len(found))
        base = len(found) - novel
        way = _resolve_way(cfg.way, base, novel)
        return cls(np.asarray(store.labels), np.sort(found[order[novel:]]), np.sort(found[order[:novel]]), way)

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
        found = draw_episodes(self.labels[rows], cfg.shot, way=self.way, queries=cfg.queries, count=count, seed=seed)
        if found is None:
            raise UserError(
                f"an episode has {plural(cfg.shot, 'labeled image')} of each of {self.way} classes and at least "
                "one more to classify, and some classes have fewer: add images, or choose a smaller --shot or --way",
                code="too-few-images",
            )
        episodes: Episodes = rows[found]
        return episodes


def _count_novel(share: float, classes: int) -> int:
    """Return the number of test classes; UserError where either part would have too few."""
    novel, most = round(share * classes), classes - LEAST
    if not LEAST <= novel <= most:
        raise UserError(
            f"--novel {share:g} gives {plural(novel, 'class', 'classes')} of {classes} to the test, and the training "
            f"and the test need {LEAST} each: choose {LEAST / classes:.2g} to {most / classes:.2g}",
            code="too-few-classes",
        )
    return novel


def _resolve_way(way: int | None, base: int, novel: int) -> int:
    """Return the classes of an episode: `way`, or by default 5 or all of the smaller part; UserError above that."""
    most = min(base, novel)
    if way is not None and way > most:
        raise UserError(
            f"--way is {way}, with {plural(base, 'class', 'classes')} for the training and {novel} for the test "
            f"(--novel): choose 2 to {most}",
            code="way-out-of-range",
        )
    if way is None and most < WAY:
        logger.info("%d-way instead of %d-way: the training has %d classes and the test %d", most, WAY, base, novel)
    return min(WAY, most) if way is None else way
