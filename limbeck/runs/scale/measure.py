"""Measure this machine and one of its devices: cores, memory, disk, training steps, forward passes, searches.

On a CPU, seconds are those of the processor, divided by the threads of PyTorch: what else a machine does at the moment
changes times by a factor of five, and is no part of a plan.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from limbeck.core.devices import choose_device, resolve_bf16
from limbeck.core.errors import UserError
from limbeck.data.sources.selection import Selection
from limbeck.data.store.store import Store
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.models.backbone import Backbone
from limbeck.neighbors.graph import estimate_seconds
from limbeck.neighbors.vectors import UnitVectors
from limbeck.runs.measured_kernels import with_kernels
from limbeck.runs.request import RunRequest
from limbeck.runs.resolve import RunSetup, resolve_run
from limbeck.runs.run_length import estimate_run
from limbeck.runs.scale.arithmetic import Workload
from limbeck.runs.scale.constants import Constants, names_of
from limbeck.runs.scale.sample import measure_images
from limbeck.runs.training import build_method
from limbeck.teachers.frozen import teacher_features
from limbeck.train.config import TrainConfig

SEARCHED = 16_384  # rows that the time of a search is estimated for
FORWARD = 64  # images per forward pass, or more until a pass takes so many seconds
PASS_SECONDS, MOST_FORWARD = 0.5, 4096
STEP_SECONDS = 20.0  # for timing steps with more and more images: few of them take longer each
OPTIONAL = {"disk_bytes_per_second", "network_bytes_per_second", "teacher_images_per_second", "teacher_dim"}
"""Constants that are not measured, or only where there is a teacher."""


def complete(given: Constants, workload: Workload, request: RunRequest | None, epochs: float) -> Constants:
    """Return the given constants, and for what they leave out what is measured here.

    Args:
        given: what is known.
        workload: the machines; devices other than those of this machine cannot be measured.
        request: the training, of which the source may be None: then photographs are made.
        epochs: of the planned training.

    Raises:
        UserError: as `resolve_run`; or there are GPUs in it, this machine has none, and their speeds are not given.
    """
    found, request = given.over(_machine()), request or RunRequest(source="")
    lacking = [name for name in names_of("device") if getattr(found, name) is None and name not in OPTIONAL]
    if not lacking and all(getattr(found, name) is not None for name in names_of("image")):
        return found
    here = choose_device(request.training.accelerator).type
    if lacking and (workload.gpus > 0) != (here != "cpu"):
        raise UserError(
            f"{'GPUs are' if workload.gpus else 'a machine without GPUs is'} planned for and this machine has "
            f"{'none' if workload.gpus else 'some'}: give {', '.join(lacking)} with --constants FILE, or --gpus "
            f"{0 if workload.gpus else 1}",
            code="missing-constants",
        )
    selection = Selection.by(request.exclude, request.only)
    pixels = measure_images(request.source or None, request.store_size, selection)
    found = found.over(pixels.constants)
    return found.over(_device(pixels.images, request, workload, epochs)) if lacking else found


def _machine() -> Constants:
    return Constants(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        disk_bytes=shutil.disk_usage(Path.cwd()).free,
    )


def _device(images: NDArray[np.uint8], request: RunRequest, workload: Workload, epochs: float) -> Constants:
    """Measure steps and passes on the images, repeated until they fill a batch."""
    batch = per_device(request.training, workload)
    rows = np.resize(np.arange(len(images)), max(2 * batch, len(images)))
    steps = max(1, round(epochs * workload.images / (batch * workload.devices)))  # of the whole run, for its kernels
    training = replace(
        request.training, batch_size=batch, devices=1, num_nodes=1, epochs=steps * batch / len(rows), warmup_epochs=None
    )
    device = choose_device(training.accelerator)
    clock = _clock_of(device)
    with _only_warnings():
        setup = resolve_run(replace(request, source=images[rows], training=training, time=None, exclude=(), only=()))
        trainable = build_method(setup, Path())
        setup, _ = with_kernels(setup, trainable, estimate_run(setup, trainable))
        estimate = estimate_run(setup, trainable, least_budget=STEP_SECONDS, clock=clock)
        encoder = trainable.method.encoder()
        if not isinstance(encoder, Backbone) or not isinstance(setup.data, Store):
            raise UserError("--images plans trainings on images: leave it out for other data", code="not-images")
        size, triple = encoder.cfg.image_size or setup.data.size, (0.5, 0.5, 0.5)
        view, bf16 = eval_images(setup.data, size, triple, triple, device), resolve_bf16("auto", device)
        forward = _rate(lambda rows: extract(encoder, view, rows, device=device, bf16=bf16), clock, len(rows))
        dim = encoder.dim
        return Constants(
            step_images_per_second=estimate.images_per_second,
            forward_images_per_second=forward,
            products_per_second=_products(dim, device, clock),
            dim=dim,
            gradient_bytes=sum(4 * p.numel() for p in trainable.method.parameters() if p.requires_grad),
            run_bytes=estimate.run_bytes,
            batch_size=batch,
        ).over(_teacher(setup, device, clock, len(rows)))


def per_device(training: TrainConfig, workload: Workload) -> int:
    """Return the images per step of a device: what is left of a batch that was given, or else the usual batch."""
    if training.batch_size == TrainConfig().batch_size:
        return training.batch_size
    return max(1, training.batch_size // workload.devices)


def _clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock of a device; that of a GPU waits for it."""

    def of_gpu() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return of_gpu if device.type == "cuda" else lambda: time.process_time() / torch.get_num_threads()


def _teacher(setup: RunSetup, device: torch.device, clock: Callable[[], float], images: int) -> Constants:
    if setup.teacher is None:
        return Constants()
    teacher, store = setup.teacher.teacher, setup.teacher.store
    rate = _rate(lambda rows: teacher_features(teacher, store, rows, device=device), clock, images)
    return Constants(teacher_images_per_second=rate, teacher_dim=teacher.dim)


def _rate(work: Callable[[NDArray[np.int64]], object], clock: Callable[[], float], images: int) -> float:
    """Return images per second, timed with twice as many images until they take long enough."""
    count = FORWARD
    work(np.arange(min(count, images)))  # warms up
    while True:
        rows = np.arange(count) % images
        began = clock()
        work(rows)
        seconds = clock() - began
        if seconds >= PASS_SECONDS or count >= MOST_FORWARD:
            return count / seconds
        count *= 2


def _products(dim: int, device: torch.device, clock: Callable[[], float]) -> float:
    """Return the operations per second of an exact neighbor search, with everything that it does besides."""
    rows = torch.randn(SEARCHED, dim, generator=torch.Generator().manual_seed(0))
    seconds = estimate_seconds(UnitVectors(rows, None, device), 5, clock)
    return 2 * SEARCHED**2 * dim / seconds


@contextmanager
def _only_warnings() -> Iterator[None]:
    """Keep what is chosen for a few images out of the log: the plan is about others."""
    logger = logging.getLogger("limbeck")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)
