"""The cost of a run, measured before or on its first steps: speed, memory, largest batch, time and disk space."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from limbeck.core.text import format_bytes, format_duration, plural
from limbeck.core.types import Dataset, StepInfo
from limbeck.data.loader import Loader
from limbeck.data.sampling import ALL_ROWS, SamplingPlan
from limbeck.methods.base import Method
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.loading import LoaderFactory
from limbeck.train.memory import MemoryUse, fits_in_memory, fixed_bytes, peak_memory, tensor_bytes
from limbeck.train.step import StepRunner
from limbeck.train.timing import BUDGET, time_steps

logger = logging.getLogger(__name__)

FAR = 16  # times as many images as were timed, from where a batch is too far to be extrapolated without a warning
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
    kernels: str = ""
    """Precision, attention and memory format; empty where several processes choose them."""
    unit: str = "images"
    """Noun for the rows of a batch."""
    kernel_gain: float = 1.0
    """Measured speed relative to the usual kernels."""

    def __str__(self) -> str:
        batch = f"{self.largest_batch:,} (tried)" if self.tried else f"about {self.largest_batch:,} (extrapolated)"
        speed = f"{self.images_per_second:,.1f} {self.unit}/s"
        return (
            f"cost: {format_duration(self.seconds)} for {plural(self.steps, 'step')}, {speed}; "
            f"{format_bytes(self.memory)} of memory, largest batch {batch}; "
            f"disk: store {format_bytes(self.store_bytes)}, run {format_bytes(self.run_bytes)}"
        )

    def with_steps(self, steps: int) -> "CostEstimate":
        """Return the cost of so many steps of the same kind."""
        return replace(self, steps=steps, seconds=self.seconds * steps / self.steps)

    def with_processes(self, processes: int, *, images: int, steps: int) -> "CostEstimate":
        """Return the cost of `steps` over `images` with so many processes, each of which is as fast as this one."""
        return replace(
            self.with_steps(steps),
            images_per_second=self.images_per_second * processes,
            largest_batch=min(self.largest_batch * processes, images),
        )


class CostEstimator:
    """Measure a run from before its first step, which is step `start`; waits for the device and changes nothing.

    A few steps are timed at the start and, where views are smaller at first, a few of the larger ones.
    """

    def __init__(self, runner: StepRunner, start: int = 0) -> None:
        self.runner, self.device = runner, runner.fabric.device
        self._memory = MemoryUse.before(self.device)
        self._timer_start = 0.0
        self._seconds: list[float] = []
        self._begins = [start, runner.small_steps] if start < runner.small_steps else [start]

    def after_step(self, step: int) -> CostEstimate | None:
        """Call this after every step with the number of steps of the run so far; return the estimate once it is due."""
        since = step - self._begins[len(self._seconds)] if len(self._seconds) < len(self._begins) else 0
        if since not in (WARMUP_STEPS, WARMUP_STEPS + TIMED_STEPS):
            return None
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if since == WARMUP_STEPS:
            self._timer_start = time.perf_counter()
            return None
        self._seconds.append((time.perf_counter() - self._timer_start) / TIMED_STEPS)
        return self._found() if len(self._seconds) == len(self._begins) else None

    def _found(self) -> CostEstimate:
        loader, runner = self.runner.loader, self.runner
        forward_batch = loader.batch_size // loader.world_size // loader.accumulate_steps
        memory = self._memory.after(peak_memory(self.device), forward_batch)
        share = runner.small_steps / runner.total_steps
        return _estimate(runner, share * self._seconds[0] + (1 - share) * self._seconds[-1], memory)


def estimate_cost(
    method: Method,
    store: Dataset,
    views: tuple[Any, ...],
    cfg: TrainConfig,
    optim: OptimConfig,
    sampling: SamplingPlan = ALL_ROWS,
    loader: LoaderFactory = Loader,
    *,
    try_batches: bool = False,
    budget: float = BUDGET,
    clock: Callable[[], float] = time.perf_counter,
) -> CostEstimate:
    """Time the parts of a step in one process, without a folder; log them. `method` does not change.

    Of progressive resizing, both kinds of steps are timed; memory is that of the larger views.
    `clock` tells the seconds, of which `budget` is the limit. With `try_batches`, on a GPU, twice the batch size is
    tried, then four times, and so on up to the whole store; otherwise the largest batch is extrapolated.
    """
    step, images, runner, memory = time_steps(
        method, store, views, cfg, optim, sampling, loader, budget=budget, clock=clock
    )
    logger.info("timed with %d of the %d %s of a step:", images, cfg.batch_size, runner.loader.unit)
    for line in step.lines():
        logger.info("  %s", line)
    if images * FAR <= cfg.batch_size // cfg.accumulate_steps:
        logger.warning(
            "%d of %d %s are few: if the machine is busy, a step may take several times less",
            images,
            cfg.batch_size,
            runner.loader.unit,
        )
    seconds = step.seconds
    if cfg.progressive_resizing:
        small = time_steps(
            method, store, views, cfg, optim, sampling, loader, budget=budget, clock=clock, small=True
        ).step.seconds
        logger.info("  a step with smaller views takes %.0f %% of that", 100 * small / seconds)
        seconds += cfg.progressive_resizing * (small - seconds)
    estimate = _estimate(runner, seconds, memory)
    if runner.fabric.device.type != "cuda" or not try_batches:
        return estimate

    def fits(batch_size: int) -> bool:
        larger = replace(cfg, batch_size=batch_size, compile=False)
        tried = StepRunner(runner.method, store, views, larger, optim, sampling, loader)
        with closing(tried.loader.batches(0, 1)) as batches:
            return fits_in_memory(lambda: tried.accumulate_gradients(batches, StepInfo(0, tried.total_steps)))

    return replace(estimate, largest_batch=largest_that_fits(fits, cfg.batch_size, runner.loader.count), tried=True)


def _estimate(runner: StepRunner, seconds_per_step: float, memory: MemoryUse) -> CostEstimate:
    loader, method = runner.loader, runner.method
    saved = tensor_bytes(method.state_dict()) + tensor_bytes(runner.optimizer.state_dict())
    return CostEstimate(
        unit=loader.unit,
        images_per_second=loader.batch_size / seconds_per_step,
        memory=memory.peak,
        largest_batch=_largest_batch(runner, memory),
        tried=False,
        steps=runner.total_steps,
        seconds=seconds_per_step * runner.total_steps,
        store_bytes=_disk_bytes(loader.store.path) if loader.store.path else 0,
        run_bytes=2 * saved + tensor_bytes(method.encoder().state_dict()),
    )


def _largest_batch(runner: StepRunner, memory: MemoryUse) -> int:
    """Extrapolate: gradients and the optimizer's state do not grow with the batch, all other memory does."""
    loader, fixed = runner.loader, fixed_bytes(runner.method, runner.optimizer)
    room = (memory.free - fixed) / (1 if runner.fabric.device.type == "cuda" else loader.world_size)
    forward_batch = max(memory.images, int(room / memory.per_image(fixed)))
    return min(_two_binary_digits(forward_batch * loader.world_size * loader.accumulate_steps), loader.count)


def largest_that_fits(fits: Callable[[int], bool], batch_size: int, maximum: int) -> int:
    """Return the largest of `batch_size`, 2 x, 4 x, ... up to `maximum` that fits; `batch_size` is known to fit."""
    while 2 * batch_size <= maximum and fits(2 * batch_size):
        batch_size *= 2
    return batch_size


def _two_binary_digits(count: int) -> int:
    """Round down to a number such as 384 or 512: more digits than two would claim more than is known."""
    unit = 1 << max(count.bit_length() - 2, 0)
    return count // unit * unit


def _disk_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
