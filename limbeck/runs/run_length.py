"""Duration of a run: estimate it before the first step, and fit its steps into a time that was given."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from limbeck.core.text import format_duration
from limbeck.methods.base import Trainable
from limbeck.runs.defaults import with_start_warmup
from limbeck.runs.resolve import RunSetup, resolve_method
from limbeck.train.estimate import CostEstimate, estimate_cost
from limbeck.train.length import steps_within
from limbeck.train.timing import BUDGET

logger = logging.getLogger(__name__)

TIME_SHARE, LONGEST = 0.02, 30.0  # of a time that was given: spent on measuring, at most so many seconds


def estimate_run(
    setup: RunSetup,
    trainable: Trainable,
    *,
    try_batches: bool = False,
    least_budget: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> CostEstimate:
    """Estimate what a run costs from parts of its steps, in one process; several are as many times as fast.

    It may take `least_budget` seconds of `clock`, by default `BUDGET`, or more if the run has a long time.
    """
    training, (method, views, sampling) = setup.cfg.training, trainable
    least = BUDGET if least_budget is None else least_budget
    processes = training.num_processes
    estimate = estimate_cost(
        method,
        setup.data,
        views,
        replace(training, devices=1, num_nodes=1, batch_size=training.batch_size // processes),
        setup.cfg.optim,
        sampling,
        setup.modality.loader,
        try_batches=try_batches,
        clock=clock,
        budget=max(least, min(TIME_SHARE * (setup.seconds or 0), LONGEST)),
    )
    return estimate.with_processes(processes, images=setup.num_images, steps=setup.total_steps)


def steps_of(setup: RunSetup, estimate: CostEstimate) -> int:
    """Return the optimizer steps of a run: those that fit into what is left of its time, if it has one.

    Raises:
        UserError: hardly a step fits.
    """
    if setup.seconds is None:
        return setup.total_steps
    spent = time.monotonic() - setup.began
    steps = steps_within(setup.seconds, estimate.seconds / estimate.steps, spent=spent)
    return steps if setup.most_epochs is None else min(steps, round(setup.most_epochs * _per_epoch(setup)))


def fit_to_time(setup: RunSetup, estimate: CostEstimate) -> RunSetup:
    """Return the run with as many epochs as fit into what is left of its time; without a time, the run itself.

    Raises:
        UserError: hardly a step fits.
    """
    if setup.seconds is None:
        return setup
    steps = steps_of(setup, estimate)
    training = replace(setup.cfg.training, epochs=steps / _per_epoch(setup))
    if setup.start:
        training = with_start_warmup(training)
    logger.info(
        "time %s: %s steps of %s, which is %.4g epochs",
        format_duration(setup.seconds),
        f"{steps:,}",
        format_duration(estimate.seconds / estimate.steps),
        training.num_epochs,
    )
    method = resolve_method(setup.requested_method, setup.data, setup.teacher, training).value
    return replace(setup, cfg=replace(setup.cfg, training=training, method=method))


def _per_epoch(setup: RunSetup) -> int:
    return setup.num_images // setup.cfg.training.batch_size
