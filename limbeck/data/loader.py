"""Batches of views in a seeded order; what a step sees follows from the seed and its number, so a run resumes anywhere.

One thread reads raw uint8 rows ahead; views are drawn and computed by the caller, on the compute device. With CUDA the
rows travel through pinned memory, and a store that fits in a quarter of the device's free memory is kept there whole.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.types import Batch
from limbeck.data.augment.apply import augment
from limbeck.data.augment.params import Array, draw, hash_uniforms
from limbeck.data.augment.views import View
from limbeck.data.store.store import Store

T = TypeVar("T")
CACHED_VIEW_SEED = 0  # of draws whose answers are kept, so that one pass of a teacher serves runs of every seed
MATES = -1  # among the numbers of views, that of the draw of mates
RESIDENT_SHARE = 0.25  # of the free device memory: the rest is for weights and activations


class SamplingPlan(NamedTuple):
    """Which rows an epoch visits, in whose company, and how often what a teacher sees is drawn anew."""

    rows: Array | None = None  # int64, ascending; None: all of the store
    bags: Array | None = None  # [N K] integers, for every row of the store the rows that its mate is drawn from
    view_period: int = 0
    """Draws after which what a teacher sees repeats, so that its answers can be kept, and its views need not be made;
    0: never."""


class RawBatch(NamedTuple):
    """What the reading thread hands over for one batch: the anchors and, where there are bags, a mate of each."""

    epoch: int
    rows: tuple[Tensor, ...]  # [B] int64
    images: tuple[Tensor, ...]  # [B S S 3] uint8; empty when the whole store is on the device


def prefetch(items: Iterator[T], depth: int = 2) -> Generator[T, None, None]:
    """The same items, computed by one thread up to `depth` ahead; their exceptions are raised here, in their turn.

    Closing the generator waits for the items under way (at most `depth`) and ends the thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="limbeck-prefetch") as pool:
        ahead = deque(pool.submit(next, items, None) for _ in range(depth))
        while (item := ahead.popleft().result()) is not None:
            ahead.append(pool.submit(next, items, None))
            yield item


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits `count` rows, int64 [count]."""
    return np.random.default_rng((seed, epoch)).permutation(count)


ALL_ROWS = SamplingPlan()


class Loader:
    """Epochs of `Batch` from a store; the incomplete last batch of an epoch is dropped.

    Args:
        store: where the images are.
        views: what to make of each image, in the order of `Batch.views`.
        batch_size: images per optimiser step, over all processes and micro-batches.
        seed: of the order and of every augmentation.
        device: where views are computed.
        rank, world: this process and their number; of the rows of a step it takes `rank::world`.
        accumulate: micro-batches per optimiser step.
        visits: which rows, with which mates; by default every row by itself.

    Raises:
        UserError: the store holds less than one batch, or a batch does not divide among processes and micro-batches.
    """

    def __init__(
        self,
        store: Store,
        views: tuple[View, ...],
        batch_size: int,
        *,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        accumulate_steps: int = 1,
        sampling: SamplingPlan = ALL_ROWS,
    ) -> None:
        self.count = len(store) if sampling.rows is None else len(sampling.rows)
        """Rows that an epoch visits."""
        check_batch(batch_size, self.count, world, accumulate_steps)
        self.store, self.views, self.batch_size, self.seed, self.device = store, views, batch_size, seed, device
        self.rank, self.world, self.accumulate_steps, self.sampling = rank, world, accumulate_steps, sampling
        self.steps_per_epoch = self.count // batch_size
        self.waited = 0.0
        """Seconds that the caller has waited for rows so far."""
        self._taught = {
            index if view.same_crop_as is None else view.same_crop_as
            for index, view in enumerate(views)
            if view.for_teacher
        }
        self._labels = torch.from_numpy(np.array(store.labels)) if store.labelled else None
        self._widths, self._heights = (torch.from_numpy(np.array(side)) for side in (store.widths, store.heights))
        self._resident = _on_device(store.images, device) if _fits(store.images, device) else None

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """The batches of the optimiser steps `start` to `stop` (exclusive): `accumulate_steps` of them for each step."""
        with closing(prefetch(self._raw(start, stop))) as ahead:
            while True:
                asked = time.perf_counter()
                raw = next(ahead, None)
                self.waited += time.perf_counter() - asked
                if raw is None:
                    return
                yield self._batch(raw)

    def look(self, rows: np.ndarray) -> Batch:
        """Those rows, int64 [B], as the first epoch shows them to what learns."""
        return self._batch(self._read(rows, 0), teacher=False)

    def rows(self, step: int) -> np.ndarray:
        """Rows of the store that this process sees in an optimiser step, int64 [batch_size / world]."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.count, self.seed, epoch)
        rows = order[within * self.batch_size : (within + 1) * self.batch_size][self.rank :: self.world]
        return rows if self.sampling.rows is None else self.sampling.rows[rows]

    def _raw(self, start: int, stop: int) -> Iterator[RawBatch]:
        for step in range(start, stop):
            for rows in np.split(self.rows(step), self.accumulate_steps):
                yield self._read(rows, step // self.steps_per_epoch)

    def _read(self, rows: np.ndarray, epoch: int) -> RawBatch:
        pin = self.device.type == "cuda"
        both = (rows,) if self.sampling.bags is None else (rows, self._mates(self.sampling.bags, rows, epoch))
        images = tuple(_gather(self.store.images, some, pin) for some in both) if self._resident is None else ()
        kept = [torch.from_numpy(some).contiguous() for some in both]
        return RawBatch(epoch, tuple(some.pin_memory() if pin else some for some in kept), images)

    def _mates(self, bags: Array, rows: np.ndarray, epoch: int) -> np.ndarray:
        """For each row one of its bag, drawn anew every epoch."""
        chance = hash_uniforms(self.seed, epoch, MATES, rows, 1)[:, 0]
        return bags[rows, (chance * bags.shape[1]).astype(np.int64)].astype(np.int64)

    def _batch(self, raw: RawBatch, teacher: bool = True) -> Batch:
        """The views of raw rows; without `teacher`, or where its answers are kept, those that what learns sees."""
        rows = [some.to(self.device, non_blocking=True) for some in raw.rows]
        if self._resident is None:
            images = [some.to(self.device, non_blocking=True) for some in raw.images]
        else:
            images = [self._resident[some] for some in rows]
        teacher = teacher and not self.sampling.view_period
        wanted = [(index, view) for index, view in enumerate(self.views) if teacher or not view.for_teacher]
        views = tuple(self._view(index, view, raw, images) for index, view in wanted)
        labels = None if self._labels is None else self._labels[raw.rows[0]].to(self.device, non_blocking=True)
        return Batch(views, rows[0], labels, rows[1] if len(rows) > 1 else None, self._replayed(raw.epoch))

    def _view(self, index: int, view: View, raw: RawBatch, images: list[Tensor]) -> Tensor:
        drawn_as = index if view.same_crop_as is None else view.same_crop_as
        rows, pixels = raw.rows[view.of_partner], images[view.of_partner]
        kept = bool(self.sampling.view_period) and drawn_as in self._taught
        seed, epoch = (CACHED_VIEW_SEED, self._replayed(raw.epoch)) if kept else (self.seed, raw.epoch)
        widths, heights = self._widths[rows], self._heights[rows]
        params = draw(view, drawn_as, rows, widths, heights, self.store.size, seed, epoch)
        return augment(pixels, view, params, view.mean, view.std)

    def _replayed(self, epoch: int) -> int:
        return epoch % self.sampling.view_period if self.sampling.view_period else epoch


def check_batch(batch_size: int, count: int, world: int, accumulate_steps: int) -> None:
    """UserError unless `count` images fill a batch that divides among `world` x `accumulate_steps` micro-batches."""
    parts = world * accumulate_steps
    if count < batch_size:
        largest = count - count % parts
        remedy = f"the largest batch that would do is {largest}" if largest else "add images"
        raise UserError(f"a batch of {batch_size} needs as many images and there are {count}; {remedy}")
    if batch_size % parts:
        raise UserError(
            f"a batch of {batch_size} does not divide into {world} process(es) x {accumulate_steps} micro-batch(es); "
            f"take {max(parts, batch_size - batch_size % parts)}"
        )


def _gather(images: np.ndarray, rows: np.ndarray, pin: bool) -> Tensor:
    """Rows of the memory map as a tensor [B S S 3], uint8, in pinned memory if asked."""
    out = torch.empty((len(rows), *images.shape[1:]), dtype=torch.uint8, pin_memory=pin)
    np.take(images, rows, axis=0, out=out.numpy(), mode="clip")  # "raise" would go through a second buffer
    return out


def _fits(images: np.ndarray, device: torch.device) -> bool:
    return device.type == "cuda" and images.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


def _on_device(images: np.ndarray, device: torch.device, block: int = 4096) -> Tensor:
    out = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), block):
        out[start : start + block] = torch.from_numpy(np.array(images[start : start + block])).to(device)
    return out
