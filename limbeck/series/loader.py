"""Batches of views of series, as a function of the seed and the number of the step."""

import time
from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.core.types import Batch
from limbeck.data.loader import check_batch
from limbeck.data.sampling import ALL_ROWS, SamplingPlan, StepRows
from limbeck.series.data import SeriesData
from limbeck.series.views import Normalization, SeriesView, draw_view


class SeriesLoader:
    """Epochs of `Batch` from series in memory; see `limbeck.data.loader.Loader` for the arguments.

    A view of a batch has a mask if its `SeriesView` has spans.

    Raises:
        UserError: as `check_batch`; or the spans to be hidden are longer than the series.
    """

    unit = "series"

    def __init__(
        self,
        store: SeriesData,
        views: tuple[SeriesView, ...],
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
        self.count, self.steps_per_epoch = self.indices.count, self.indices.steps_per_epoch
        check_batch(batch_size, self.indices.smallest, world_size, accumulate_steps)
        check_spans(views, store.steps)
        self.store, self.views, self.batch_size, self.seed, self.device = store, views, batch_size, seed, device
        self._period = sampling.view_period  # where it is not 0, the teacher's outputs are cached
        self.world_size, self.accumulate_steps, self.wait_seconds = world_size, accumulate_steps, 0.0
        mean, std = store.normalization()
        self._how = Normalization(mean=np.array(mean, np.float32), std=np.array(std, np.float32))
        labels = store.labels if sampling.labels is None and store.labeled else sampling.labels
        self._labels = None if labels is None else torch.from_numpy(np.array(labels))

    def batches(self, start: int, stop: int, small_steps: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of the optimizer steps `start` to `stop` (exclusive), `accumulate_steps` for each step.

        No series has a smaller view, so that `small_steps` has no effect.
        """
        for step in range(start, stop):
            for rows in np.split(self.indices(step), self.accumulate_steps):
                began = time.perf_counter()
                batch = self._batch(rows, step // self.steps_per_epoch, teacher_views=not self._period)
                self.wait_seconds += time.perf_counter() - began
                yield batch

    def fixed_batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return the rows `indices` [B] in the trained network's views of epoch 0."""
        return self._batch(indices, 0, teacher_views=False)

    def _batch(self, rows: NDArray[np.int64], epoch: int, *, teacher_views: bool) -> Batch:
        values = self.store[rows]
        drawn = [
            draw_view(
                view,
                number if view.crop_of is None else view.crop_of,
                values,
                rows,
                self._how,
                seed=self.seed,
                epoch=epoch,
            )
            for number, view in enumerate(self.views)
            if teacher_views or view.network == "student"
        ]
        indices = torch.from_numpy(rows)
        return Batch(
            tuple(torch.from_numpy(view.values).to(self.device) for view in drawn),
            indices.to(self.device),
            None if self._labels is None else self._labels[indices].to(self.device),
            view_epoch=epoch % self._period if self._period else epoch,
            masks=tuple(torch.from_numpy(view.mask).to(self.device) for view in drawn if view.mask is not None),
            host_rows=(rows,),
        )


def check_spans(views: tuple[SeriesView, ...], steps: int) -> None:
    """Raise UserError for spans that are hidden and not shorter than series of `steps` steps."""
    for spans in (view.spans for view in views if view.spans):
        if not 0 < (span := spans.steps_of_span(steps)) < steps:
            raise UserError(
                f"mask_span is {span} and the longest series has {steps} steps: choose 1 to {steps - 1}",
                code="span-too-long",
            )
