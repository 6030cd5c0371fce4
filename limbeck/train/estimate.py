"""What a run costs, measured on its first steps: speed, memory, the largest batch, time, disk."""

import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from limbeck.core.types import StepInfo
from limbeck.data.sampling import ALL_ROWS, SamplingPlan, ViewSpec
from limbeck.data.store.store import Store
from limbeck.methods.base import Method
from limbeck.train.config import TrainConfig
from limbeck.train.optim import OptimConfig
from limbeck.train.step import Steps

WARM, TIMED = 1, 4  # steps; the first one allocates, chooses kernels and fills the optimiser's state


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run costs. Bytes are of one process, and of the whole disk."""

    images_per_second: float
    memory: int
    """Peak: of the process on a CPU, allocated on a GPU."""
    largest_batch: int
    """Images per optimiser step."""
    tried: bool
    """Whether that many were tried, or reckoned from the memory of the steps that were measured."""
    steps: int
    seconds: float
    """For all steps, without the periodic k-NN."""
    store_bytes: int
    """0 for images in memory."""
    run_bytes: int
    """Two checkpoints, for the new one is written beside the old one, and the encoder."""

    def __str__(self) -> str:
        disk = f"store {_size(self.store_bytes)}, run {_size(self.run_bytes)}"
        return (
            f"{self.images_per_second:,.1f} images/s; {_size(self.memory)} of memory; largest batch "
            f"{'' if self.tried else 'about '}{self.largest_batch:,} ({'tried' if self.tried else 'reckoned'}); "
            f"{_time(self.seconds)} for {self.steps:,} steps; "
            f"{_size(self.store_bytes + self.run_bytes)} of disk ({disk})"
        )


class CostEstimator:
    """Measures a run from before its first step on; waits for the device twice and changes nothing."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.device = steps, steps.fabric.device
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._before, self._free = _used(self.device), _free(self.device)
        self._began = 0.0

    def note(self, taken: int) -> Plan | None:
        """To be called after every step, with their number; the plan, once, when enough of them were timed."""
        if taken not in (WARM, WARM + TIMED):
            return None
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if taken == WARM:
            self._began = time.perf_counter()
            return None
        return self._plan((time.perf_counter() - self._began) / TIMED)

    def _plan(self, seconds: float) -> Plan:
        steps, loader, method = self.steps, self.steps.loader, self.steps.method
        weights, state = _bytes(method.state_dict()), _bytes(steps.optimizer.state_dict())
        gradients = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
        together = loader.batch_size // loader.world_size // loader.accumulate_steps
        # Gradients and the optimiser's state do not grow with the batch; all else that the steps took does.
        peak = _peak(self.device)
        per_image = max(peak - self._before - gradients - state, 1) / together
        room = (self._free - gradients - state) / (1 if self.device.type == "cuda" else loader.world_size)
        largest = max(together, int(room / per_image)) * loader.world_size * loader.accumulate_steps
        return Plan(
            images_per_second=loader.batch_size / seconds,
            memory=peak,
            largest_batch=min(_round(largest), loader.count),
            tried=False,
            steps=steps.count,
            seconds=seconds * steps.count,
            store_bytes=_on_disk(loader.store.path) if loader.store.path else 0,
            run_bytes=2 * (weights + state) + _bytes(method.encoder().state_dict()),
        )


def measure(
    method: Method,
    store: Store,
    views: tuple[ViewSpec, ...],
    cfg: TrainConfig,
    optim: OptimConfig,
    sampling: SamplingPlan = ALL_ROWS,
) -> Plan:
    """What a run would cost, from its first steps, in one process and without a folder; `method` is changed by them.

    On a GPU twice the batch is tried, and twice that, up to the whole store; on a CPU the largest is reckoned.
    """
    steps = Steps(method, store, views, cfg, optim, sampling)
    meter = CostEstimator(steps)
    with closing(steps.loader.batches(0, WARM + TIMED)) as batches:
        for step in range(WARM + TIMED):
            steps.take(batches, step)
            plan = meter.note(step + 1)
    assert plan
    if steps.fabric.device.type != "cuda":
        return plan

    def fits(batch: int) -> bool:
        larger = Steps(method, store, views, replace(cfg, batch_size=batch, compile=False), optim, sampling)
        with closing(larger.loader.batches(0, 1)) as batches:
            return fits_on_gpu(lambda: larger.backward(batches, StepInfo(0, larger.count)))

    return replace(plan, largest_batch=largest(fits, cfg.batch_size, steps.loader.count), tried=True)


def largest(fits: Callable[[int], bool], known: int, most: int) -> int:
    """The largest of `known`, 2 x `known`, ... up to `most` that fits, by trying; `known` is taken to fit."""
    while 2 * known <= most and fits(2 * known):
        known *= 2
    return known


def fits_on_gpu(step: Callable[[], object]) -> bool:
    """Whether a step ends without running out of the GPU's memory, which is free again afterwards."""
    try:
        step()
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def _round(batch: int) -> int:
    """Down to two binary digits, such as 384 or 512: more would be more than is known."""
    unit = 1 << max(batch.bit_length() - 2, 0)
    return batch // unit * unit


def _used(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _linux("/proc/self/status", "VmRSS") if sys.platform == "linux" else _peak(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if sys.platform == "linux":
        return _linux("/proc/meminfo", "MemAvailable")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _linux(file: str, name: str) -> int:
    """Bytes behind `name` in a file of the kernel's, which counts in kB."""
    line = next(line for line in Path(file).read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _bytes(state: Any) -> int:
    """Of all tensors in nested dictionaries and lists."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(_bytes(part) for part in parts)


def _on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _size(count: float) -> str:
    power, unit = next((p, u) for p, u in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if count >= 2**p or u == "KiB")
    return f"{count / 2**power:,.1f} {unit}"


def _time(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"
