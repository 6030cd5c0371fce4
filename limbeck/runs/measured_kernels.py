"""Kernels of a run: measured once per machine and kind of step, and recorded in the configuration of the run."""

import json
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from limbeck.core.config import from_json, to_json
from limbeck.core.devices import choose_device, describe_machine
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.data.fingerprint import fingerprint
from limbeck.data.store.open import cache_folder
from limbeck.methods.base import Trainable
from limbeck.runs.resolve import RunSetup
from limbeck.runs.run_length import estimate_run, steps_of
from limbeck.train.estimate import CostEstimate
from limbeck.train.kernel_choice import KernelChoice, choose_kernels
from limbeck.train.kernels import Kernels

logger = logging.getLogger(__name__)

WORTH = 300.0  # seconds of a run from which on some five seconds of measuring pay


def with_kernels(setup: RunSetup, trainable: Trainable, estimate: CostEstimate) -> tuple[RunSetup, CostEstimate]:
    """Return the run with the kernels that are fastest here, and what it then costs.

    Only a run in one process on a CPU, of at least `WORTH` seconds, is measured: on GPUs the usual kernels are fastest,
    and what several processes measure may differ.
    """
    training = setup.cfg.training
    device = choose_device(training.accelerator)
    duration = steps_of(setup, estimate) * estimate.seconds / estimate.steps
    open_choice = "auto" in (training.precision, training.attention, training.memory_format)
    if device.type != "cpu" or training.num_processes > 1 or duration < WORTH or not open_choice:
        return setup, replace(estimate, kernels=str(Kernels.of(training, device)))
    machine = describe_machine(device)
    choice = _measured_once(setup, trainable, machine)
    chosen = replace(training, **vars(choice.kernels), measured_on=machine)
    setup = replace(setup, cfg=replace(setup.cfg, training=chosen))
    gain = f"{choice.gain:.2g} times as fast as" if choice.gain > 1 else "no other is faster than"
    logger.info("kernels: %s; measured: %s the usual ones", choice.kernels, gain)
    if choice.gain > 1:
        estimate = estimate_run(setup, trainable)
    return setup, replace(estimate, kernels=str(choice.kernels), kernel_gain=choice.gain)


def _measured_once(setup: RunSetup, trainable: Trainable, machine: str) -> KernelChoice:
    """Return the choice for this kind of step on this machine, from the cache if it was measured before."""
    path = _cache_file(setup, machine)
    if path and path.is_file():
        with suppress(UserError):
            return from_json(KernelChoice, read_json(path), str(path))
    method, views, sampling = trainable
    cfg = setup.cfg
    choice = choose_kernels(method, setup.data, views, cfg.training, cfg.optim, sampling, setup.modality.loader)
    if path:
        write_json(path, to_json(choice))
    return choice


def _cache_file(setup: RunSetup, machine: str) -> Path | None:
    """Return the file that caches the choice; None where there is no cache."""
    cfg = setup.cfg
    asked = (cfg.training.precision, cfg.training.attention, cfg.training.memory_format)
    images = cfg.training.batch_size // cfg.training.accumulate_steps
    teacher, drop = cfg.teacher.name if cfg.teacher else "", cfg.training.patch_drop_rate
    step = [to_json(cfg.method), to_json(cfg.backbone), teacher, images, drop]
    key = fingerprint([machine, torch.__version__, *asked, json.dumps(step, sort_keys=True)])[:16]
    try:
        return cache_folder(None) / f"kernels-{key}.json"
    except UserError as error:
        logger.warning("the choice of kernels is not cached: %s", error)
        return None
