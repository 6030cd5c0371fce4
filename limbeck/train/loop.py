"""The training loop: the only one, for every method and every kind of data.

A step depends on the state that the step before left, on the seed and on its number: the order of the images, the
augmentations and torch's random numbers follow from the last two. A run that was killed and resumed therefore gives the
numbers of one that was not; on a CPU, to the last bit.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

from limbeck.core import slurm
from limbeck.core.config import Json
from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.run_folder import CHECKPOINT, HEALTH
from limbeck.core.text import plural
from limbeck.core.types import Dataset, LossOutput
from limbeck.data.loader import Loader
from limbeck.data.sampling import ALL_ROWS, SamplingPlan
from limbeck.methods.base import Method
from limbeck.train.checkpoint import load_checkpoint, save_checkpoint
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.estimate import CostEstimator
from limbeck.train.eval_callback import EvalCallback, evaluate_encoder
from limbeck.train.health.monitor import HealthMonitor
from limbeck.train.health.read import HealthReader
from limbeck.train.interrupt import Interrupted, StopRequest
from limbeck.train.kernels import warn_of_other_machine
from limbeck.train.launch import any_process, check_same_run, describe, environment
from limbeck.train.loading import LoaderFactory
from limbeck.train.nonfinite import locate_nonfinite
from limbeck.train.run_log import RunLog
from limbeck.train.schedule import Due, Schedule
from limbeck.train.step import StepResult, StepRunner

logger = logging.getLogger(__name__)

LEAST_SCALE = 1.0  # of the loss in fp16, which starts at 65,536 and is halved by every overflow


def train(
    method: Method,
    store: Dataset,
    views: tuple[Any, ...],
    cfg: TrainConfig,
    optim: OptimConfig,
    run: Path,
    *,
    config: Json,
    eval_callback: EvalCallback | None = None,
    sampling: SamplingPlan = ALL_ROWS,
    loader: LoaderFactory = Loader,
    save_encoder: Callable[[str], None] | None = None,
    resume: bool = False,
) -> None:
    """Train `method`, in place, on `views` of the rows of `store`.

    Writes metrics.csv, checkpoint.ckpt and what the loggers write into the folder `run`. With several processes each of
    them calls this (Fabric starts them, unless torchrun or SLURM did), with the same `method`; rank 0 alone writes.

    Args:
        method: the method, built.
        store: the data.
        views: what to make of each row, in the terms of the loader.
        cfg: how long to train, on which devices, and how often to log, evaluate and save.
        optim: the optimizer.
        run: the folder of the run.
        config: everything that defines the run; a checkpoint of another one is refused.
        eval_callback: scores the encoder every `cfg.eval_every_epochs` epochs.
        sampling: which rows to train on, and which rows come together.
        loader: makes the batches; for data other than images, a loader of their own.
        save_encoder: writes the encoder next to every checkpoint but the last; its argument is the progress of the run.
        resume: continue from the checkpoint in `run`, or from the start if none was written yet.

    Raises:
        UserError: the store holds less than a batch, the checkpoint does not fit or is in the way, a number is not
            finite, or the representations have collapsed.
        Interrupted: SIGINT or SIGTERM was received; the state is saved.
    """
    if (run / CHECKPOINT).exists() and not resume:
        raise UserError(
            f"'{run}' already contains a run; resume it with `limbeck resume {run}` or choose another folder",
            code="run-exists",
        )
    make_folder(run)
    runner = StepRunner(method, store, views, cfg, optim, sampling, loader)
    _Loop(runner, run, config, eval_callback, save_encoder).run_steps()


class _Loop:
    """The steps of a run in one process. `log` and `health` are None in all processes but rank 0."""

    def __init__(
        self,
        runner: StepRunner,
        run: Path,
        config: Json,
        eval_callback: EvalCallback | None,
        save_encoder: Callable[[str], None] | None,
    ) -> None:
        self.runner, self.run, self.config = runner, run, config
        self.eval_callback, self.save_encoder = eval_callback, save_encoder
        self.method, self.cfg, self.fabric = runner.method, runner.cfg, runner.fabric
        self.total_steps = runner.total_steps
        self.start = self._load_checkpoint() if (run / CHECKPOINT).exists() else 0
        check_same_run(self.fabric, self.start, config)
        self.schedule = Schedule(self.cfg, runner.steps_per_epoch, self.total_steps, eval_callback is not None)
        self.estimator = CostEstimator(runner, self.start)
        self.log: RunLog | None = None
        self.health: HealthMonitor | None = None
        self.saved_at = time.monotonic()
        self.warned = False

    def run_steps(self) -> None:
        """Take the steps that remain."""
        batches = self.runner.batches(self.start, self.total_steps)
        with StopRequest() as request, self._open_log() as self.log, closing(batches):
            self._begin()
            for step in range(self.start, self.total_steps):
                due = self.schedule.after(step + 1)
                result = self.runner.train_step(batches, step, measure_norm=due.log)
                if self.log:
                    self.log.advance()
                self._log_cost(step + 1)
                if due.log:
                    self._log_row(step + 1, result, due)
                if due.health:
                    self._stop_if_collapsed()
                stopping = self._stop_requested(request, due)
                if stopping or step + 1 == self.total_steps or self._checkpoint_due(due):
                    self._save_checkpoint(step + 1, result.loss)
                if stopping:
                    self._interrupt(step + 1, request)
        if self.health and self.health.readings and (self.start < self.total_steps or not (self.run / HEALTH).exists()):
            self.health.summarize()

    def _open_log(self) -> AbstractContextManager[RunLog | None]:
        if not self.fabric.is_global_zero:
            return nullcontext()
        return RunLog(self.run, self.start, self.total_steps, self.cfg, self.config, self.runner.loader.unit)

    def _begin(self) -> None:
        if not self.log:
            return
        length = (
            f"{plural(self.cfg.num_epochs, 'epoch')} of {plural(self.runner.steps_per_epoch, 'step')} of "
            f"{self.cfg.batch_size:,} {self.runner.loader.unit}"
        )
        resumed = f", from step {self.start:,}" if self.start else ""
        if self.start < self.total_steps:
            logger.info("training on %s: %s%s", describe(self.fabric), length, resumed)
        else:
            logger.info("all %s have been taken before: there is nothing left to train", length)
        warn_of_other_machine(self.cfg, self.fabric.device)
        if self.cfg.health_every_steps:
            reader = HealthReader(self.method, self.runner.loader, self.fabric)
            warmup_steps = self.cfg.warmup_steps(self.runner.steps_per_epoch)
            self.health = HealthMonitor(reader, self.run, warmup_steps, self.log.rows())
        if not (self.run / CHECKPOINT).exists():  # `locate_nonfinite` starts from it; and a full disk shows at once
            self._write_state(0)

    def _log_cost(self, step: int) -> None:
        if (estimate := self.estimator.after_step(step)) and self.log:
            logger.info("measured %s", estimate)

    def _log_row(self, step: int, result: StepResult, due: Due) -> None:
        """Write a row of the log. Only here does the loop wait for the device and for the other processes."""
        values = self.runner.mean_values(result)
        scaler = self.runner.scaler  # with one, gradients may overflow: the step is skipped, the scale halved
        if not math.isfinite(values["loss"] + (0.0 if scaler else values["grad_norm"])):
            self._locate_nonfinite(step)
        if scaler:
            values["loss_scale"] = scaler.get_scale()
            self._warn_of_overflow(step, values["loss_scale"])
        if not self.log:
            return
        speed = self.log.speed(step, self.runner.loader.wait_seconds)
        scores = self._evaluate() if due.evaluation else {}
        health = self.health.read(step, {**values, **scores}) if due.health and self.health else {}
        epoch = step / self.runner.steps_per_epoch
        self.log.record(step, {"epoch": epoch, "lr": result.lr, **values, **speed, **scores, **health})

    def _warn_of_overflow(self, step: int, scale: float) -> None:
        """Say once that steps are skipped again and again."""
        if scale < LEAST_SCALE and not self.warned:
            self.warned = True
            logger.warning(
                "gradients overflow in fp16 again and again: after step %d the loss is scaled by %g, and each overflow "
                "skips a step; --precision bf16 or fp32 in a new run has no overflow",
                step,
                scale,
            )

    def _evaluate(self) -> dict[str, float]:
        return evaluate_encoder(self.eval_callback, self.method.encoder()) if self.eval_callback else {}

    def _stop_if_collapsed(self) -> None:
        """End the run in every process if rank 0 found a collapse."""
        reason = self.health.stop_reason() if self.health and self.cfg.stop_on_collapse else None
        if reason := self.fabric.broadcast(reason):
            raise UserError(reason, code="collapsed")

    def _stop_requested(self, request: StopRequest, due: Due) -> bool:
        """Return whether any process received a signal; several processes agree only where they meet for the log."""
        if self.fabric.world_size == 1:
            return request.requested
        return due.log and any_process(self.fabric, request.requested)

    def _checkpoint_due(self, due: Due) -> bool:
        """Return whether to save now; only where a row was logged, since the loss is known to be finite there."""
        if not self.cfg.checkpoint_every_minutes:
            return due.epoch_end
        return due.log and time.monotonic() - self.saved_at >= 60 * self.cfg.checkpoint_every_minutes

    def _save_checkpoint(self, step: int, loss: LossOutput) -> None:
        if not self.log:
            return
        if not math.isfinite(float(loss.total)):
            self._locate_nonfinite(step)
        if self.health:
            self.health.before_checkpoint(step)
        self._write_state(step)
        self.saved_at = time.monotonic()

    def _write_state(self, step: int) -> None:
        runner = self.runner
        where = environment(self.fabric, self.cfg)
        save_checkpoint(self.run / CHECKPOINT, step, self.method, runner.optimizer, self.config, runner.scaler, where)
        if self.save_encoder and step < self.total_steps:
            self.save_encoder(f"step {step} of {self.total_steps}")

    def _load_checkpoint(self) -> int:
        """Restore the state of the checkpoint and return the number of steps taken before it."""
        runner, where = self.runner, environment(self.fabric, self.cfg)
        return load_checkpoint(self.run / CHECKPOINT, self.method, runner.optimizer, self.config, runner.scaler, where)

    def _locate_nonfinite(self, step: int) -> None:
        locate_nonfinite(self.runner, self._load_checkpoint(), step, self.run, self.config)

    def _interrupt(self, step: int, request: StopRequest) -> None:
        """End the run in every process; a job that SLURM has warned is requeued, once its state is on the disk."""
        follow = f"continue with `limbeck resume {self.run}`"
        if any_process(self.fabric, request.is_warning):
            follow = (
                slurm.requeue() if self.fabric.is_global_zero else "the first process asks SLURM to requeue the job"
            )
        self.fabric.barrier()
        raise Interrupted(f"stopped after step {step} of {self.total_steps}; {follow}", request.code)
