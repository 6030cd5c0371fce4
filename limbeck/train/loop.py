"""The training loop: the only one, for every method.

What a step does depends on the state that the step before left, on the seed and on its number: the order of the images,
the augmentations and torch's random numbers follow from the last two. A run that was killed and resumed therefore gives
the numbers of one that was not; on a CPU, to the last bit.
"""

import math
import time
from contextlib import closing, nullcontext
from pathlib import Path

import torch

from limbeck.core.config import Json
from limbeck.core.errors import UserError
from limbeck.core.run_folder import CHECKPOINT
from limbeck.core.types import LossOutput
from limbeck.data.sampling import ALL_ROWS, SamplingPlan, ViewSpec
from limbeck.data.store.store import Store
from limbeck.methods.base import Method
from limbeck.train.checkpoint import load_checkpoint, save_checkpoint
from limbeck.train.config import TrainConfig
from limbeck.train.estimate import CostEstimator
from limbeck.train.eval_callback import Probe, score
from limbeck.train.health.monitor import HealthMonitor
from limbeck.train.health.read import HealthReader
from limbeck.train.interrupt import Interrupted, StopRequest
from limbeck.train.launch import check_alike, describe, mean_over_processes
from limbeck.train.log import Log
from limbeck.train.nonfinite import trace
from limbeck.train.optim import OptimConfig, warmup_steps
from limbeck.train.step import StepResult, Steps


def train(
    method: Method,
    store: Store,
    views: tuple[ViewSpec, ...],
    cfg: TrainConfig,
    optim: OptimConfig,
    run: Path,
    *,
    config: Json,
    probe: Probe | None = None,
    sampling: SamplingPlan = ALL_ROWS,
    resume: bool = False,
) -> None:
    """Trains `method`, in place, on `views` of the images of `store`.

    Writes metrics.csv, tensorboard/ and checkpoint.ckpt into the folder `run`. With several processes each of them
    calls this (Fabric starts them, unless torchrun or SLURM did), with the same `method`; the first one alone writes.

    Args:
        config: everything that defines the run; a checkpoint of another one is refused.
        probe: scores an encoder in evaluation mode, as {"knn": accuracy}; asked every `cfg.eval_every_epochs` epochs.
        visits: which rows of the store to train on, and with which mates.
        resume: go on from the checkpoint in `run`, or from the start when none was written yet.

    Raises:
        UserError: the store holds less than a batch, the checkpoint does not fit or is in the way, a number is not
            finite, or the embeddings have collapsed.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    if (run / CHECKPOINT).exists() and not resume:
        raise UserError(f"{run} holds a run already; resume it, or choose another folder")
    run.mkdir(parents=True, exist_ok=True)
    _Training(Steps(method, store, views, cfg, optim, sampling), run, config, probe).fit()


class _Training:
    """The part of a run that one process does."""

    def __init__(self, steps: Steps, run: Path, config: Json, probe: Probe | None) -> None:
        self.steps, self.run, self.config, self.probe = steps, run, config, probe
        self.method, self.cfg, self.fabric = steps.method, steps.cfg, steps.fabric
        self.epoch, self.end = steps.epoch, steps.count
        self.start = self._load() if (run / CHECKPOINT).exists() else 0
        check_alike(self.fabric, self.start, config)
        self.meter = CostEstimator(steps)
        self.watch: HealthMonitor | None = None
        self.saved = time.monotonic()

    def fit(self) -> None:
        """Takes the steps that are left."""
        writes = self.fabric.is_global_zero
        log_or_none = Log(self.run, self.start, self.end, self.cfg.batch_size) if writes else nullcontext()
        batches = self.steps.loader.batches(self.start, self.end)
        with StopRequest() as stop, log_or_none as log, closing(batches):
            if log:
                self._begin(log)
            for step in range(self.start, self.end):
                done = self.steps.take(batches, step, norm=self._logs(step + 1))
                self._report(log, step + 1, done)
                self._pause(log, step + 1, done.loss, stop)
        if self.watch:
            self.watch.conclude()

    def _begin(self, log: Log) -> None:
        log.say(self._description())
        if self.cfg.health_every_steps:
            examiner = HealthReader(self.method, self.steps.loader, self.fabric)
            self.watch = HealthMonitor(examiner, self.run, warmup_steps(self.cfg, self.epoch), log)
        if not (self.run / CHECKPOINT).exists():  # where `trace` would start from; and a full disk shows at once
            save_checkpoint(self.run / CHECKPOINT, 0, self.method, self.steps.optimizer, self.config)

    def _load(self) -> int:
        """Goes back to the checkpoint, and returns the number of steps behind it."""
        return load_checkpoint(self.run / CHECKPOINT, self.method, self.steps.optimizer, self.config)

    def _logs(self, done: int) -> bool:
        return (
            done % self.cfg.log_every_steps == 0 or done % self.epoch == 0 or done == self.end or self._examines(done)
        )

    def _examines(self, done: int) -> bool:
        """Whether the health is read after so many steps."""
        every = self.cfg.health_every_steps
        return every > 0 and (done % every == 0 or done == self.end)

    def _scores(self, done: int) -> bool:
        """Whether an epoch ends here after which the encoder is scored."""
        every = self.cfg.eval_every_epochs * self.epoch
        return self.probe is not None and every > 0 and done % every == 0

    def _report(self, log: Log | None, step: int, done: StepResult) -> None:
        """A row of the log: means over processes, fetched from the device at once (only here does the loop wait)."""
        if (plan := self.meter.note(step - self.start)) and log:
            log.say(str(plan))
        if not self._logs(step):
            return
        assert done.norm is not None
        named = {"loss": done.loss.total, **done.loss.terms, "grad_norm": done.norm}
        stacked = torch.stack([value.float() for value in named.values()])
        values = dict(zip(named, mean_over_processes(self.fabric, stacked).tolist(), strict=True))
        if not math.isfinite(values["loss"] + values["grad_norm"]):
            trace(self.steps, self._load(), step, self.run, self.config)
        if log:
            speed = log.speed(step, self.steps.loader.wait_seconds)
            scores = score(self.probe, self.method.encoder()) if self.probe and self._scores(step) else {}
            health = self.watch.read(step, values) if self.watch and self._examines(step) else {}
            log.record(step, {"epoch": step / self.epoch, "lr": done.lr, **values, **speed, **scores, **health})
        if self._examines(step):
            self._judge()

    def _judge(self) -> None:
        """Ends the run in every process if the one that reads has seen a collapse."""
        collapse = self.watch.collapse() if self.watch and self.cfg.stop_on_collapse else None
        if sentence := self.fabric.broadcast(collapse):
            raise UserError(sentence)

    def _pause(self, log: Log | None, done: int, loss: LossOutput, stop: StopRequest) -> None:
        """Between two steps: a checkpoint if it is time for one, and the end if somebody asked for it."""
        stopping = self._agree(stop, done)
        minutes = (time.monotonic() - self.saved) / 60
        late = (
            minutes >= self.cfg.checkpoint_every_minutes
            if self.cfg.checkpoint_every_minutes
            else done % self.epoch == 0
        )
        due = late and self._logs(done)  # where the loss is known to be finite
        if log and (stopping or due or done == self.end):
            self._save(done, loss)
        if stopping:
            self.fabric.barrier()
            raise Interrupted(
                f"stopped after step {done} of {self.end}; go on with `limbeck resume {self.run}`", stop.code
            )

    def _save(self, done: int, loss: LossOutput) -> None:
        if not math.isfinite(float(loss.total)):
            trace(self.steps, self._load(), done, self.run, self.config)
        if self.watch:
            self.watch.keep(done)
        save_checkpoint(self.run / CHECKPOINT, done, self.method, self.steps.optimizer, self.config)
        self.saved = time.monotonic()

    def _agree(self, stop: StopRequest, done: int) -> bool:
        """Whether any process was asked to stop; several ask each other only when they meet for the log anyway."""
        if self.fabric.world_size == 1:
            return stop.asked
        if not self._logs(done):
            return False
        asked = torch.tensor(float(stop.asked), device=self.fabric.device)
        return bool(mean_over_processes(self.fabric, asked) > 0)

    def _description(self) -> str:
        length = f"{self.cfg.epochs:g} epochs of {self.epoch} steps of {self.cfg.batch_size} images"
        resumed = f", from step {self.start}" if self.start else ""
        return f"training on {describe(self.fabric)}: {length}{resumed}"
