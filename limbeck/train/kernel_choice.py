"""Choose kernels by timing forward and backward passes on a CPU, where the usual ones may be half as fast as others."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from limbeck.core.types import Batch, Dataset, StepInfo
from limbeck.data.loader import Loader
from limbeck.data.sampling import ALL_ROWS, SamplingPlan
from limbeck.methods.base import Method
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.kernels import Kernels, fused_attentions, set_attention, set_memory_format
from limbeck.train.loading import LoaderFactory
from limbeck.train.timing import SIZE_ERRORS, StepCopy, copied_for_timing, sizes_up_to

logger = logging.getLogger(__name__)

LEAST_SECONDS = 0.2  # of a pass: shorter ones are timed with more images
SLOW = 0.5  # seconds of a first pass, which warms up, from which on it counts
ROUNDS = 3  # passes of each candidate, in turns, the first included
LEAST_GAIN = 1.1  # by which a candidate must be faster than the usual kernels; load makes smaller differences


@dataclass(frozen=True, kw_only=True)
class KernelChoice:
    """The kernels of a run, and what they gain."""

    kernels: Kernels
    gain: float
    """Speed relative to the usual kernels, forward and backward."""


def choose_kernels(
    method: Method,
    store: Dataset,
    views: tuple[Any, ...],
    cfg: TrainConfig,
    optim: OptimConfig,
    sampling: SamplingPlan = ALL_ROWS,
    loader: LoaderFactory = Loader,
    *,
    clock: Callable[[], float] = time.process_time,
) -> KernelChoice:
    """Time the kernels that `cfg` leaves open on a copy of `method`, in one process on the CPU.

    Processor time is compared, since it depends less than wall time on what else the machine does.

    Raises:
        UserError: the settings do not fit together.
    """
    with copied_for_timing(method, store, views, cfg, optim, sampling, loader) as copy:
        usual, passes = Kernels.of(cfg, copy.runner.fabric.device), _Passes(copy, clock)
        seconds = passes.time(_combinations(usual, cfg, has_attention=bool(passes.attentions)))
        fastest = min(seconds, key=seconds.__getitem__)
        if cfg.memory_format == "auto":
            seconds |= passes.time([usual, fastest, replace(fastest, memory_format="contiguous")])
            fastest = min(seconds, key=seconds.__getitem__)
    gain = seconds[usual] / seconds[fastest]
    return KernelChoice(kernels=fastest, gain=gain) if gain >= LEAST_GAIN else KernelChoice(kernels=usual, gain=1.0)


def _combinations(usual: Kernels, cfg: TrainConfig, *, has_attention: bool) -> list[Kernels]:
    """Return the usual kernels and those with another precision or attention, where these are open."""
    found = [usual]
    if has_attention and cfg.attention == "auto":
        found.append(replace(usual, attention="plain"))
    if cfg.precision == "auto" and usual.precision != "fp32":
        found += [replace(kernels, precision="fp32") for kernels in found]
    return found


class _Passes:
    """Forward and backward passes of a batch with one kernel or another."""

    def __init__(self, copy: StepCopy, clock: Callable[[], float]) -> None:
        self.method, self.device, self.clock = copy.runner.method, copy.runner.fabric.device, clock
        self.attentions: list[nn.Module] = fused_attentions(self.method)
        self.info, self.usual = StepInfo(0, copy.runner.total_steps), Kernels.of(copy.runner.cfg, self.device)
        self.batch = self._batch(copy)

    def time(self, candidates: list[Kernels]) -> dict[Kernels, float]:
        """Return the seconds of the fastest pass of each candidate."""
        passes: dict[Kernels, list[float]] = {kernels: [] for kernels in candidates}
        for _ in range(ROUNDS):
            for kernels, seconds in passes.items():
                if not (seconds and seconds[0] > SLOW):
                    seconds.append(self._time(kernels, self.batch))
        return {kernels: min(seconds[1:] or seconds) for kernels, seconds in passes.items()}

    def _batch(self, copy: StepCopy) -> Batch:
        """Return a batch with enough images to time a pass, at most a whole one."""
        whole = copy.runner.cfg.batch_size // copy.runner.cfg.accumulate_steps
        for images in sizes_up_to(whole):
            with closing(copy.small_loader(images).batches(0, 1)) as batches:
                batch = next(batches)
            try:
                self._time(self.usual, batch)
                if self._time(self.usual, batch) >= LEAST_SECONDS:
                    break
            except SIZE_ERRORS:
                if images == whole:
                    raise
        return batch

    def _time(self, kernels: Kernels, batch: Batch) -> float:
        set_attention(self.attentions, kernels.attention)
        set_memory_format(self.method, kernels.memory_format)
        self.method.zero_grad()
        began = self.clock()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=kernels.precision == "bf16"):
            total = self.method(batch, self.info).total
        total.backward()
        return self.clock() - began
