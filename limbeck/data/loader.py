"""Batches of views in a seeded order. A batch follows from the seed and its step, so that a run resumes anywhere.

One thread reads uint8 pixels ahead, which several threads decode where images are stored encoded; views are computed by
the caller, on the compute device. On CUDA, pixels travel through pinned memory, and a store that takes less than a
quarter of the free device memory is kept there.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.types import Batch
from limbeck.data.augment.apply import augment
from limbeck.data.augment.color import to_device
from limbeck.data.augment.draw_parameters import sample_params
from limbeck.data.sampling import ALL_ROWS, DrawSchedule, SamplingPlan, StepRows, ViewSpec, draw_partners
from limbeck.data.store.encoded import Images, read_rows
from limbeck.data.store.store import Store

T = TypeVar("T")
RESIDENT_SHARE = 0.25  # of the free device memory: the rest is for weights and activations


class RawBatch(NamedTuple):
    """A batch before augmentation: the images and, where there are bags, their partners."""

    epoch: int
    rows: tuple[NDArray[np.int64], ...]  # [B] of the store
    indices: tuple[Tensor, ...]  # [B] int64, the same
    pixels: tuple[Tensor, ...]  # [B S S 3] uint8; empty when the store is on the device
    companion: Tensor | None = None  # [B S S 3] uint8, where a view is of it
    small: bool = False  # whether its views are the smaller ones


class Loader:
    """Epochs of `Batch` from a store, in whole batches; the images that fill none take turns (`epoch_order`).

    Batches of several groups of images alternate (`SamplingPlan.groups`).

    Args:
        store: the images.
        views: the views of each image, in the order of `Batch.views`.
        batch_size: images per optimizer step, over all processes and micro-batches.
        seed: of the order and of every augmentation.
        device: computes the views.
        rank, world_size: this process and the number of processes; of the images of a step it takes `rank::world_size`.
        accumulate_steps: micro-batches per optimizer step.
        sampling: which images, with which partners; by default every image of the store.

    Raises:
        UserError: the store holds less than one batch, or a batch does not divide among processes and micro-batches.
    """

    unit = "images"

    def __init__(
        self,
        store: Store,
        views: tuple[ViewSpec, ...],
        batch_size: int,
        *,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        accumulate_steps: int = 1,
        sampling: SamplingPlan = ALL_ROWS,
    ) -> None:
        self.indices = StepRows(len(store), sampling, batch_size, seed=seed, rank=rank, world_size=world_size)
        """The rows of the store that this process gets in an optimizer step, [batch_size / world_size]."""
        self.count, self.steps_per_epoch = self.indices.count, self.indices.steps_per_epoch
        check_batch(batch_size, self.indices.smallest, world_size, accumulate_steps)
        self.store, self.batch_size, self.seed, self.device = store, batch_size, seed, device
        self.rank, self.world_size, self.accumulate_steps, self.sampling = rank, world_size, accumulate_steps, sampling
        self.schedule = DrawSchedule(views, seed, sampling.view_period)
        self.wait_seconds = 0.0
        """Seconds that the caller has waited for pixels so far."""
        labels = store.labels if sampling.labels is None and store.labeled else sampling.labels
        self._labels = None if labels is None else np.asarray(labels)
        self._companion = _companion_of(store, self.schedule)
        self._resident = _on_device(store.images, device) if _fits(store.images, device) else None

    def batches(self, start: int, stop: int, small_steps: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of the optimizer steps `start` to `stop` (exclusive), `accumulate_steps` for each step.

        Views of the steps below `small_steps` have fewer pixels, where their `ViewSpec` says so.
        """
        with closing(prefetch(self._read_steps(start, stop, small_steps))) as ahead:
            while True:
                began = time.perf_counter()
                raw = next(ahead, None)
                self.wait_seconds += time.perf_counter() - began
                if raw is None:
                    return
                yield self._batch(raw, self.schedule.computed())

    def fixed_batch(self, indices: NDArray[np.int64], *, teacher_views: bool = False) -> Batch:
        """Return the rows `indices` [B] in the student's views of epoch 0 and, with `teacher`, in the teacher's."""
        views = enumerate(self.schedule.views)
        chosen = [i for i, view in views if teacher_views or view.network == "student"]
        return self._batch(self._read(indices, 0), chosen)

    def _read_steps(self, start: int, stop: int, small_steps: int) -> Iterator[RawBatch]:
        for step in range(start, stop):
            for indices in np.split(self.indices(step), self.accumulate_steps):
                yield self._read(indices, step // self.steps_per_epoch)._replace(small=step < small_steps)

    def _read(self, indices: NDArray[np.int64], epoch: int) -> RawBatch:
        pin = self.device.type == "cuda"
        images: tuple[NDArray[np.int64], ...] = (indices,)
        if self.sampling.bags is not None:
            images = (indices, draw_partners(self.sampling.bags, indices, self.seed, epoch))
        pixels = tuple(_gather(self.store.images, rows, pin) for rows in images) if self._resident is None else ()
        tensors = [torch.from_numpy(rows).contiguous() for rows in images]
        companion = None if self._companion is None else _gather(self._companion, indices, pin)
        return RawBatch(epoch, images, tuple(rows.pin_memory() if pin else rows for rows in tensors), pixels, companion)

    def _batch(self, raw: RawBatch, chosen: list[int]) -> Batch:
        """Compute the `chosen` views of a raw batch."""
        indices = [rows.to(self.device, non_blocking=True) for rows in raw.indices]
        if self._resident is None:
            pixels = [images.to(self.device, non_blocking=True) for images in raw.pixels]
        else:
            pixels = [self._resident[rows] for rows in indices]
        companion = None if raw.companion is None else raw.companion.to(self.device, non_blocking=True)
        views = tuple(self._view(index, raw, pixels, companion) for index in chosen)
        labels = None if self._labels is None else to_device(self._labels[raw.rows[0]], self.device)
        partners = indices[1] if len(indices) > 1 else None
        return Batch(
            views,
            indices[0],
            labels,
            partners,
            self.schedule.view_epoch(raw.epoch),
            masks=tuple(self._mask(index, raw) for index in chosen if self.schedule.views[index].mask),
            host_rows=raw.rows,
        )

    def _mask(self, index: int, raw: RawBatch) -> Tensor:
        mask = self.schedule.views[index].mask
        assert mask is not None, "only views with a mask are asked"
        hidden = torch.from_numpy(mask.draw(index, raw.rows[0], *self.schedule.seed_and_epoch(index, raw.epoch)))
        return hidden.to(self.device, non_blocking=True)

    def _view(self, index: int, raw: RawBatch, pixels: list[Tensor], companion: Tensor | None) -> Tensor:
        spec = self.schedule.views[index]
        image = 1 if spec.image == "partner" else 0
        rows, draw = raw.rows[image], self.schedule.draw_index(index)
        seed, epoch = self.schedule.seed_and_epoch(index, raw.epoch)
        widths, heights = self.store.widths[rows], self.store.heights[rows]
        view = spec.small if raw.small and spec.small else spec.augmentation
        params = sample_params(view, draw, rows, widths, heights, self.store.size, seed, epoch)
        shown = companion if spec.image == "companion" and companion is not None else pixels[image]
        return augment(shown, view, params, view.mean, view.std)


def _companion_of(store: Store, schedule: DrawSchedule) -> Images | None:
    """Return the companion's pixels, if a view that is computed is of them; UserError where there are none."""
    if not any(schedule.views[index].image == "companion" for index in schedule.computed()):
        return None
    if store.companion is None:
        raise UserError(
            "a view is of the companion of an image, and the store has none: give --companion STORE",
            code="no-companion",
        )
    return store.companion.images


def prefetch(items: Iterator[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield the same items, computed by one thread up to `depth` ahead; an exception is raised in its turn.

    Closing the generator waits for the items under way (at most `depth`) and ends the thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="limbeck-prefetch") as pool:
        ahead = deque(pool.submit(next, items, None) for _ in range(depth))
        while (item := ahead.popleft().result()) is not None:
            ahead.append(pool.submit(next, items, None))
            yield item


def check_batch(batch_size: int, count: int, world_size: int, accumulate_steps: int) -> None:
    """Raise UserError unless `count` images fill a batch that divides among all micro-batches of all processes."""
    parts = world_size * accumulate_steps
    if count < batch_size:
        largest = count - count % parts
        remedy = f"the largest possible batch size is {largest}" if largest else "add images"
        raise UserError(
            f"batch size {batch_size} exceeds the number of images, which is {count}: {remedy}", code="batch-too-large"
        )
    if batch_size % parts:
        raise UserError(
            f"batch size {batch_size} does not divide into {world_size} process(es) x {accumulate_steps} "
            f"micro-batch(es): choose {max(parts, batch_size - batch_size % parts)}",
            code="batch-not-divisible",
        )


def fitting_batch(batch_size: int, count: int, world_size: int, accumulate_steps: int) -> int:
    """Return `batch_size`, or if there are fewer images the largest power of two that `count` images fill.

    Where that does not divide among micro-batches and processes, return the next smaller size that does; 0 if none.
    """
    if count >= batch_size:
        return batch_size
    largest = 1 << (count.bit_length() - 1) if count else 0
    return largest - largest % (world_size * accumulate_steps)


def _gather(images: Images, rows: NDArray[np.int64], pin: bool) -> Tensor:
    """Copy images of a store into a tensor [B S S 3], uint8, in pinned memory if asked for."""
    out = torch.empty((len(rows), *images.shape[1:]), dtype=torch.uint8, pin_memory=pin)
    read_rows(images, rows, out.numpy())
    return out


def _fits(images: Images, device: torch.device) -> bool:
    return device.type == "cuda" and images.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


def _on_device(images: Images, device: torch.device, block: int = 4096) -> Tensor:
    out = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), block):
        out[start : start + block] = torch.from_numpy(np.array(images[start : start + block])).to(device)
    return out
