"""Time the parts of an optimizer step on a copy of the method, on few images at first and on more while time allows."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

import torch

from limbeck.core.devices import choose_device
from limbeck.core.errors import UserError
from limbeck.core.text import format_duration
from limbeck.core.types import Batch, Dataset, StepInfo
from limbeck.data.loader import Loader
from limbeck.data.sampling import ALL_ROWS, SamplingPlan
from limbeck.methods.base import Method, Teacher
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.loading import BatchLoader, LoaderFactory
from limbeck.train.memory import MemoryUse, count_activations, fits_in_memory, fixed_bytes, peak_memory
from limbeck.train.step import StepRunner

BUDGET = 6.0  # seconds after which no larger batch is timed
FIRST_IMAGES = 4  # timed first, except on a GPU, which is not busy with so few
GROWTH = 4.5  # how many of the last steps the next batch may take: it is twice as large, and a first step warms up
REPEATS = 3  # timed steps of a whole forward pass; of a part of one, a single step
SLOW = 0.25  # of the budget: a first step of a larger batch that takes longer counts, although it warms up as well
SIZE_ERRORS = (RuntimeError, AssertionError, ValueError)  # of a method that cannot compute its loss with so few images
LEAST_SLOPE = 0.5  # of the time per image: two batches show what grows with them, and noise does not show less


class StepTimes(NamedTuple):
    """Seconds that the parts of an optimizer step take with `images` per forward pass."""

    images: int
    views: float  # seconds, reading included
    forward: float  # seconds
    backward: float  # seconds
    update: float  # seconds: optimizer, EMA encoders, queues
    activations: float  # bytes

    @property
    def seconds(self) -> float:
        """Duration of the step."""
        return self.views + self.forward + self.backward + self.update

    def scaled(self, images: int, smaller: "StepTimes | None") -> "StepTimes":
        """Return the times with so many images, from these and those of a smaller batch; all but `update` grow."""
        parts = [_extrapolate(self, smaller, part, images) for part in ("views", "forward", "backward", "activations")]
        return StepTimes(images, parts[0], parts[1], parts[2], self.update, parts[3])

    def times(self, count: int) -> "StepTimes":
        """Return the times of a step of `count` micro-batches."""
        return StepTimes(
            self.images * count,
            count * self.views,
            count * self.forward,
            count * self.backward,
            self.update,
            self.activations,
        )

    def lines(self) -> list[str]:
        """Return a line about each part."""
        named = {name: getattr(self, name) for name in ("views", "forward", "backward", "update")}
        return [
            f"{name:9} {format_duration(part)} of a step ({part / self.seconds:.0%})" for name, part in named.items()
        ]


class StepCopy(NamedTuple):
    """A copy of a method, whose steps may be timed."""

    runner: StepRunner
    small_loader: Callable[[int], BatchLoader]
    """Batches of so many images."""
    memory: MemoryUse
    """Before any step."""


class Timing(NamedTuple):
    """Result of `time_steps`."""

    step: StepTimes  # of a whole step
    images: int  # per forward pass that was timed
    runner: StepRunner  # of the copy, after a few steps
    memory: MemoryUse


def time_steps(
    method: Method,
    store: Dataset,
    views: tuple[Any, ...],
    cfg: TrainConfig,
    optim: OptimConfig,
    sampling: SamplingPlan = ALL_ROWS,
    loader: LoaderFactory = Loader,
    *,
    budget: float = BUDGET,
    clock: Callable[[], float] = time.perf_counter,
    small: bool = False,
) -> Timing:
    """Time steps of a run in one process; neither `method` nor torch's random numbers change.

    The views are as large as those that a run ends with, or those of progressive resizing with `small`.

    On a CPU, a step with a whole batch may take a minute: 4 images are timed, then 8, 16 ... until `budget` seconds
    have passed or the batch is whole. A method that cannot compute its loss with so few images is timed with more.

    Raises:
        UserError: the settings do not fit together, or a step needs more memory than there is.
    """
    with copied_for_timing(method, store, views, cfg, optim, sampling, loader) as (runner, small_loader, memory):
        steps = _time_batches(runner, small_loader, budget, clock, small)
        if steps is None:
            raise _batch_too_large(runner, small_loader, clock)
    whole = cfg.batch_size // cfg.accumulate_steps
    step = steps[-1].scaled(whole, steps[-2] if len(steps) > 1 else None)
    return Timing(step.times(cfg.accumulate_steps), steps[-1].images, runner, _memory(runner, memory, step))


@contextmanager
def copied_for_timing(
    method: Method,
    store: Dataset,
    views: tuple[Any, ...],
    cfg: TrainConfig,
    optim: OptimConfig,
    sampling: SamplingPlan = ALL_ROWS,
    loader: LoaderFactory = Loader,
) -> Iterator[StepCopy]:
    """Yield a copy of `method` in one process; random numbers that are drawn in the block do not count afterwards."""
    shared = {id(value): value for value in vars(method).values() if isinstance(value, Teacher)}
    timed = copy.deepcopy(method, shared)  # a frozen teacher is not copied
    single = replace(cfg, devices=1, num_nodes=1, compile=False)
    with torch.random.fork_rng(devices=[]):
        memory = MemoryUse.before(choose_device(cfg.accelerator))
        runner = StepRunner(timed, store, views, single, optim, sampling, loader)

        def small_loader(images: int) -> BatchLoader:
            kind = {"rank": 0, "world_size": 1, "accumulate_steps": 1, "sampling": sampling}
            return loader(store, views, images, seed=cfg.seed, device=runner.fabric.device, **kind)  # type: ignore[arg-type]

        yield StepCopy(runner, small_loader, memory)


def _time_batches(
    runner: StepRunner,
    small_loader: Callable[[int], BatchLoader],
    budget: float,
    clock: Callable[[], float],
    small: bool,
) -> list[StepTimes] | None:
    """Return the times of steps with more and more images, up to a whole forward pass or the end of the budget.

    None where there was too little memory: an error would hold on to the memory of the step that met it.
    """
    found: list[StepTimes] = []
    whole, began = runner.cfg.batch_size // runner.cfg.accumulate_steps, clock()
    for images in [whole] if runner.fabric.device.type == "cuda" else sizes_up_to(whole):
        if found and clock() - began + GROWTH * found[-1].seconds > budget:
            break
        try:
            slow = SLOW * budget if found else math.inf  # the very first step loads libraries: never counted
            repeats = REPEATS if images == whole else 1
            found.append(_time(runner, small_loader(images), repeats, slow, clock, small=small))
        except torch.cuda.OutOfMemoryError:
            return None
        except SIZE_ERRORS:
            if images == whole:
                raise
    return found


def _batch_too_large(
    runner: StepRunner, small_loader: Callable[[int], BatchLoader], clock: Callable[[], float]
) -> UserError:
    """Return the error for a step that needs too much memory, with the largest part of its images that was tried."""

    def fits(images: int) -> bool:
        runner.optimizer.zero_grad()
        with closing(small_loader(images).batches(0, 1)) as batches, suppress(*SIZE_ERRORS):
            return fits_in_memory(lambda: _step(runner, batches, clock))
        return False

    cfg, device = runner.cfg, runner.fabric.device
    whole = cfg.batch_size // cfg.accumulate_steps
    found = next((parts for parts in range(2, whole + 1) if whole % parts == 0 and fits(whole // parts)), None)
    way = "choose a smaller network or image size"
    if found:
        way = (
            f"{whole // found} fit: give --batch-size {cfg.batch_size // found}, or keep the batch with "
            f"--accumulate-steps {cfg.accumulate_steps * found}"
        )
    return UserError(
        f"a step with {whole} images at once needs more memory than {device} has; {way}", code="out-of-memory"
    )


def sizes_up_to(whole: int) -> list[int]:
    """Return the images of the forward passes to time, ascending; the last one is `whole`."""
    doubled = [FIRST_IMAGES << power for power in range(whole.bit_length())]
    return [*(size for size in doubled if size < whole), whole]


def _extrapolate(large: StepTimes, small: StepTimes | None, part: str, images: int) -> float:
    """Return a part of a step with `images`, on the line through two measurements; through zero if there is one."""
    value = float(getattr(large, part))
    slope = value / large.images
    if small is not None:
        steeper = (value - getattr(small, part)) / (large.images - small.images)
        slope = min(slope, max(steeper, LEAST_SLOPE * slope))
    return value + slope * (images - large.images)


def _memory(runner: StepRunner, before: MemoryUse, step: StepTimes) -> MemoryUse:
    """Return the memory of a step: the peak on a GPU, elsewhere from the activations."""
    device = runner.fabric.device
    if device.type == "cuda":
        return before.after(peak_memory(device), step.images)
    fixed = fixed_bytes(runner.method, runner.optimizer)
    return before.after(before.used + fixed + round(step.activations), step.images)


def _time(
    runner: StepRunner,
    loader: BatchLoader,
    repeats: int,
    slow: float,
    clock: Callable[[], float],
    *,
    small: bool,
) -> StepTimes:
    """Return the mean times of `repeats` steps after one that warms up, or of that if it is `slow`."""
    stop = 1 + repeats
    with closing(loader.batches(0, stop, stop if small else 0)) as batches:
        first = _step(runner, batches, clock)
        steps = [first] if first.seconds > slow else [_step(runner, batches, clock) for _ in range(repeats)]
    views, forward, backward, update, activations = (fmean(part) for part in list(zip(*steps, strict=True))[1:])
    return StepTimes(loader.batch_size, views, forward, backward, update, activations)


def _step(runner: StepRunner, batches: Iterator[Batch], clock: Callable[[], float]) -> StepTimes:
    """Take a step of one forward pass."""
    device, info = runner.fabric.device, StepInfo(0, runner.total_steps)
    marks = [_now(device, clock)]
    batch = next(batches)
    marks.append(_now(device, clock))
    with count_activations(runner.method) as activations:
        loss = runner.module(batch, info)
    marks.append(_now(device, clock))
    runner.fabric.backward(loss.total)
    marks.append(_now(device, clock))
    runner.optimizer.step()
    runner.optimizer.zero_grad()
    with torch.no_grad():
        runner.method.after_step(loss, info)
    marks.append(_now(device, clock))
    views, forward, backward, update = (end - start for start, end in pairwise(marks))
    return StepTimes(len(batch.indices), views, forward, backward, update, sum(activations.values()))


def _now(device: torch.device, clock: Callable[[], float]) -> float:
    """Return the time at which the device has done everything so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return clock()
