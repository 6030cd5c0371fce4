"""Assign random views of images to networks, in one place for the loader and the teacher's cache.

A method describes the views of a batch by `ViewSpec`s; `SamplingPlan` says which images an epoch visits; `DrawSchedule`
gives the seed and the epoch from which the random parameters of a view are computed. Features of a teacher that are
read from a cache belong to the views of a batch because both follow the same schedule.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.data.augment.draw_parameters import Array, hash_uniforms
from limbeck.data.augment.views import View

CACHED_VIEW_SEED = 0  # draws the views whose teacher features are cached, so that one cache serves runs of every seed
PARTNER_DRAW = -1  # the number that the draw of partners has among the numbers of views
MASK_DRAW = -2  # likewise of the mask of view 0; those of the next views have the numbers below


@dataclass(frozen=True, kw_only=True)
class CellMask:
    """Square cells of a view, each of which is hidden with the same probability."""

    side: int
    """Cells along each side of the view."""
    share: float
    """Probability that a cell is hidden."""

    def draw(self, index: int, rows: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.bool_]:
        """Return which cells of view number `index` of some rows are hidden, [B side * side], row by row."""
        return hash_uniforms(seed, epoch, MASK_DRAW - index, rows, self.side**2) < self.share


@dataclass(frozen=True, kw_only=True)
class NetworkView:
    """Specification of a view, for data of any kind: its row, and the network that it is for."""

    image: Literal["own", "partner", "companion"] = "own"
    """The image itself, another one from its bag, or a second picture of it, such as its depth."""
    network: Literal["student", "teacher"] = "student"
    """A view for a frozen teacher may be read from a cache, and is then not computed."""
    crop_of: int | None = None
    """Index of the view whose random parameters this one has, whatever its size and its image; by default its own."""


@dataclass(frozen=True, kw_only=True)
class ViewSpec(NetworkView):
    """A view of images: an augmentation, the image that it is of, and the network that gets it."""

    augmentation: View
    small: View | None = None
    """The same augmentation with fewer pixels, which the first steps of a run have; None: it is as large as later."""
    mask: CellMask | None = None
    """Which part of the view `Batch.masks` hides from the trained network; None: the view has no mask."""


def view_specs(augmentations: Iterable[View]) -> tuple[ViewSpec, ...]:
    """Return views of the image itself for the student, one for each augmentation."""
    return tuple(ViewSpec(augmentation=view) for view in augmentations)


class SamplingPlan(NamedTuple):
    """Sampling plan of an epoch: its images, their partners, and when the teacher's views repeat."""

    indices: NDArray[np.int64] | None = None
    """Rows of the store, ascending; None: all of them."""
    bags: Array | None = None
    """[N K] integers: for every row of the store, the rows that its partner is drawn from."""
    view_period: int = 0
    """Epochs after which the views of the teacher repeat, so that its features can be cached; 0: they never repeat."""
    labels: NDArray[np.int64] | None = None
    """[N]: the labels that batches carry, -1 for rows without one; None: those of the store, if all of its rows have
    one. A method sees no other label."""
    groups: tuple[NDArray[np.int64], ...] = ()
    """Rows of the store, in place of `indices`: batches are of one group each, which take turns, and an epoch ends when
    the smallest group has no whole batch left."""


ALL_ROWS = SamplingPlan()


@dataclass(frozen=True)
class DrawSchedule:
    """The random draws of the views of a batch, epoch by epoch.

    A view whose random parameters the teacher shares is drawn independently of the seed of the run and repeats every
    `view_period` epochs, if that is not 0; every other view is drawn from (`seed`, epoch).
    """

    views: tuple[ViewSpec, ...]
    seed: int
    view_period: int = 0

    def draw_index(self, index: int) -> int:
        """Return the index of the view whose random parameters view `index` has."""
        crop = self.views[index].crop_of
        return index if crop is None else crop

    def seed_and_epoch(self, index: int, epoch: int) -> tuple[int, int]:
        """Return the seed and the epoch that view `index` is drawn from."""
        if self.view_period and self.draw_index(index) in self.teacher_views():
            return CACHED_VIEW_SEED, self.view_epoch(epoch)
        return self.seed, epoch

    def view_epoch(self, epoch: int) -> int:
        """Return the first epoch with the same views for the teacher; cached features are stored under it."""
        return epoch % self.view_period if self.view_period else epoch

    def teacher_views(self) -> dict[int, View]:
        """Return the different views of an image that the teacher gets, by the index of their draw."""
        return {
            self.draw_index(index): view.augmentation
            for index, view in enumerate(self.views)
            if view.network == "teacher"
        }

    def computed(self) -> list[int]:
        """Return the indices of the views of a batch: all, or the student's where the teacher's are cached."""
        return [i for i, view in enumerate(self.views) if view.network == "student" or not self.view_period]


class StepRows:
    """The rows that a process gets in every optimizer step, for data of any kind.

    Args:
        rows: of the data, N.
        plan: which of them an epoch visits, and which come together.
        batch_size: rows per optimizer step, over all processes.
        seed: of the order.
        rank, world_size: this process and the number of processes; of the rows of a step it takes `rank::world_size`.

    Attributes:
        count: rows that an epoch visits.
        smallest: rows of the smallest group.
        steps_per_epoch: optimizer steps of an epoch.
    """

    def __init__(
        self, rows: int, plan: SamplingPlan, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        every = np.arange(rows) if plan.indices is None else plan.indices
        self.groups = plan.groups or (every,)
        self.smallest = min(map(len, self.groups))
        self.count = len(self.groups) * self.smallest
        self.steps_per_epoch = len(self.groups) * (self.smallest // batch_size)
        self._batch_size, self._seed, self._rank, self._world_size = batch_size, seed, rank, world_size

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Return the rows that this process gets in an optimizer step, [batch_size / world_size]."""
        epoch, within = divmod(step, self.steps_per_epoch)
        turn, group = divmod(within, len(self.groups))
        rows = self.groups[group]
        order = epoch_order(len(rows), self._batch_size, self._seed, epoch)
        first = turn * self._batch_size
        return rows[order[first : first + self._batch_size][self._rank :: self._world_size]]


@lru_cache(maxsize=2)
def epoch_order(count: int, batch_size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch visits `count` images in whole batches, int64 [count // B * B].

    The images that fill no batch sit out the epoch. They take turns: after any number of epochs, no image was visited
    more than once more than another one. In epoch 0 they are the last ones of the order.
    """
    order, left_out = _shuffled(count, seed, epoch), count % batch_size
    if not left_out:
        return order
    turns = _shuffled(count, seed, 0)[::-1]
    out = turns[(epoch * left_out + np.arange(left_out)) % count]
    return order[~np.isin(order, out)]


def _shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


def draw_partners(bags: Array, indices: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return for each of the rows `indices` [B] one row of its bag, int64 [B]; another draw in every epoch."""
    uniforms = hash_uniforms(seed, epoch, PARTNER_DRAW, indices, 1)[:, 0]
    return bags[indices, (uniforms * bags.shape[1]).astype(np.int64)].astype(np.int64)
