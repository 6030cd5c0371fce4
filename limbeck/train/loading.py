"""Protocol of the loaders that the training loop accepts, for images, series and keypoints.

`limbeck.data.loader.Loader` is the implementation for images; another modality passes its own to `train`.
"""

from collections.abc import Generator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.core.types import Batch, Dataset
from limbeck.data.sampling import SamplingPlan


class BatchLoader(Protocol):
    """Batches of views, as a function of the seed and the number of the optimizer step."""

    @property
    def store(self) -> Dataset:
        """Data set that the batches are drawn from."""

    batch_size: int
    """Rows per optimizer step, over all processes and micro-batches."""
    world_size: int
    """Number of processes."""
    accumulate_steps: int
    """Micro-batches per optimizer step."""
    count: int
    """Rows that an epoch visits."""
    steps_per_epoch: int
    unit: str
    """Unit of the speed: images, series ..."""
    wait_seconds: float
    """Seconds that the training loop has waited for data so far."""

    def batches(self, start: int, stop: int, small_steps: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of optimizer steps `start` to `stop` (exclusive), `accumulate_steps` of them for each.

        Those of steps below `small_steps` have the smaller views, of data that have some.
        """

    def fixed_batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return the rows `indices` [B] in the student's views of epoch 0."""


class LoaderFactory(Protocol):
    """Build the loader of one process; the views are whatever the modality's own loader understands."""

    def __call__(
        self,
        store: Any,
        views: tuple[Any, ...],
        batch_size: int,
        *,
        seed: int,
        device: torch.device,
        rank: int,
        world_size: int,
        accumulate_steps: int,
        sampling: SamplingPlan,
    ) -> BatchLoader:
        """Return the loader of process `rank` of `world_size`."""
