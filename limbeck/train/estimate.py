"""The cost of a run, measured on its first steps: speed, memory, largest batch, time and disk space."""

import resource
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from limbeck.core.text import format_bytes, format_duration
from limbeck.core.types import Dataset, StepInfo
from limbeck.data.loader import Loader
from limbeck.data.sampling import ALL_ROWS, SamplingPlan
from limbeck.methods.base import Method
from limbeck.train.config import TrainConfig
from limbeck.train.loading import LoaderFactory
from limbeck.train.optim import OptimConfig
from limbeck.train.step import StepRunner

WARMUP_STEPS, TIMED_STEPS = 1, 4  # the first step allocates, chooses kernels and fills the optimizer's state


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """The cost of a run. Memory is that of one process, disk space that of all."""

    images_per_second: float
    memory: int
    """Peak in bytes: of the process on a CPU, of the allocations on a GPU."""
    largest_batch: int
    """Images per optimizer step."""
    tried: bool
    """Whether a step with the largest batch was tried, or its memory extrapolated from the measured steps."""
    steps: int
    seconds: float
    """Time for all steps, without evaluations of the encoder."""
    store_bytes: int
    """0 for images in memory."""
    run_bytes: int
    """Two checkpoints (the new one is complete before it replaces the old one) and the encoder."""

    def __str__(self) -> str:
        batch = f"{self.largest_batch:,} (tried)" if self.tried else f"about {self.largest_batch:,} (extrapolated)"
        return (
            f"cost: {self.images_per_second:,.1f} images/s, {format_bytes(self.memory)} of memory, largest batch "
            f"{batch}; {format_duration(self.seconds)} for {self.steps:,} steps; "
            f"disk: store {format_bytes(self.store_bytes)}, run {format_bytes(self.run_bytes)}"
        )

    def with_processes(self, processes: int, *, images: int, steps: int) -> "CostEstimate":
        """Return the cost of `steps` over `images` with so many processes, each of which is as fast as this one."""
        return replace(
            self,
            images_per_second=self.images_per_second * processes,
            largest_batch=min(self.largest_batch * processes, images),
            steps=steps,
            seconds=self.seconds / processes,
        )


class CostEstimator:
    """Measure a run from before its first step; waits for the device twice and changes nothing."""

    def __init__(self, runner: StepRunner) -> None:
        self.runner, self.device = runner, runner.fabric.device
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._memory_before, self._free_before = _used_memory(self.device), _free_memory(self.device)
        self._timer_start = 0.0

    def after_step(self, steps_taken: int) -> CostEstimate | None:
        """Call this after every step with the number of steps so far; return the estimate once enough were timed."""
        if steps_taken not in (WARMUP_STEPS, WARMUP_STEPS + TIMED_STEPS):
            return None
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if steps_taken == WARMUP_STEPS:
            self._timer_start = time.perf_counter()
            return None
        return self._estimate((time.perf_counter() - self._timer_start) / TIMED_STEPS)

    def _estimate(self, seconds_per_step: float) -> CostEstimate:
        runner, loader, method = self.runner, self.runner.loader, self.runner.method
        weights, state = _tensor_bytes(method.state_dict()), _tensor_bytes(runner.optimizer.state_dict())
        return CostEstimate(
            images_per_second=loader.batch_size / seconds_per_step,
            memory=_peak_memory(self.device),
            largest_batch=self._largest_batch(state),
            tried=False,
            steps=runner.total_steps,
            seconds=seconds_per_step * runner.total_steps,
            store_bytes=_disk_bytes(loader.store.path) if loader.store.path else 0,
            run_bytes=2 * (weights + state) + _tensor_bytes(method.encoder().state_dict()),
        )

    def _largest_batch(self, state: int) -> int:
        """Extrapolate: gradients and the optimizer's state do not grow with the batch, all other memory does."""
        loader = self.runner.loader
        forward_batch = loader.batch_size // loader.world_size // loader.accumulate_steps
        parameters = [parameter for parameter in self.runner.method.parameters() if parameter.requires_grad]
        fixed = state + sum(parameter.numel() * parameter.element_size() for parameter in parameters)
        per_image = max(_peak_memory(self.device) - self._memory_before - fixed, 1) / forward_batch
        room = (self._free_before - fixed) / (1 if self.device.type == "cuda" else loader.world_size)
        largest = max(forward_batch, int(room / per_image)) * loader.world_size * loader.accumulate_steps
        return min(_two_binary_digits(largest), loader.count)


def estimate_cost(
    method: Method,
    store: Dataset,
    views: tuple[Any, ...],
    cfg: TrainConfig,
    optim: OptimConfig,
    sampling: SamplingPlan = ALL_ROWS,
    loader: LoaderFactory = Loader,
) -> CostEstimate:
    """Measure the first steps of a run in one process and without a folder; `method` is changed by them.

    On a GPU, twice the batch size is tried, then four times, and so on up to the whole store; on a CPU the largest
    batch is extrapolated.
    """
    runner = StepRunner(method, store, views, cfg, optim, sampling, loader)
    estimator, estimate = CostEstimator(runner), None
    with closing(runner.loader.batches(0, WARMUP_STEPS + TIMED_STEPS)) as batches:
        for step in range(WARMUP_STEPS + TIMED_STEPS):
            runner.train_step(batches, step)
            estimate = estimator.after_step(step + 1)
    assert estimate is not None, "the last step completes the estimate"
    if runner.fabric.device.type != "cuda":
        return estimate

    def fits(batch_size: int) -> bool:
        larger = replace(cfg, batch_size=batch_size, compile=False)
        runner = StepRunner(method, store, views, larger, optim, sampling, loader)
        with closing(runner.loader.batches(0, 1)) as batches:
            return fits_on_gpu(lambda: runner.accumulate_gradients(batches, StepInfo(0, runner.total_steps)))

    return replace(estimate, largest_batch=largest_that_fits(fits, cfg.batch_size, runner.loader.count), tried=True)


def largest_that_fits(fits: Callable[[int], bool], batch_size: int, maximum: int) -> int:
    """Return the largest of `batch_size`, 2 x, 4 x, ... up to `maximum` that fits; `batch_size` is known to fit."""
    while 2 * batch_size <= maximum and fits(2 * batch_size):
        batch_size *= 2
    return batch_size


def fits_on_gpu(step: Callable[[], object]) -> bool:
    """Return whether a step runs without exhausting the GPU's memory, which is free again afterwards."""
    try:
        step()
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def _two_binary_digits(count: int) -> int:
    """Round down to a number such as 384 or 512: more digits than two would claim more than is known."""
    unit = 1 << max(count.bit_length() - 2, 0)
    return count // unit * unit


def _used_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def _tensor_bytes(state: Any) -> int:
    """Return the size of all tensors in nested dictionaries and lists."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(_tensor_bytes(part) for part in parts)


def _disk_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
