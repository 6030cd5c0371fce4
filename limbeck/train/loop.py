"""The training loop: the only one, for every method.

What a step does depends on the state that the step before left, on the seed and on its number: the order of the images,
the augmentations and torch's random numbers follow from the last two. A run that was killed and resumed therefore gives
the numbers of one that was not; on a CPU, to the last bit.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from limbeck.config import Json
from limbeck.contracts import Batch, Clock, Loss
from limbeck.data.loader import Loader
from limbeck.data.store import Store
from limbeck.data.views import View
from limbeck.errors import UserError
from limbeck.methods.base import Method
from limbeck.train.accumulate import detach, join
from limbeck.train.checkpoint import load_checkpoint, save_checkpoint
from limbeck.train.config import TrainConfig
from limbeck.train.device import connect, describe, launch, mean_over_processes, prepare, seed_step
from limbeck.train.interrupt import Interrupted, StopRequest
from limbeck.train.log import Log
from limbeck.train.optim import OptimConfig, build_optimizer, clip_gradients, set_learning_rate
from limbeck.train.probe import Probe, score

CHECKPOINT = "checkpoint.ckpt"


def train(
    method: Method,
    store: Store,
    views: tuple[View, ...],
    cfg: TrainConfig,
    optim: OptimConfig,
    run: Path,
    *,
    config: Json,
    probe: Probe | None = None,
    resume: bool = False,
) -> None:
    """Trains `method`, in place, on `views` of the images of `store`.

    Writes metrics.csv, tensorboard/ and checkpoint.ckpt into the folder `run`. With several processes each of them
    calls this (Fabric starts them, unless torchrun or SLURM did), with the same `method`; the first one alone writes.

    Args:
        config: everything that defines the run; a checkpoint of another one is refused.
        probe: scores an encoder in evaluation mode, as {"knn": accuracy}; asked every `cfg.knn_every` epochs.
        resume: go on from the checkpoint in `run`, or from the start when none was written yet.

    Raises:
        UserError: the store holds less than a batch, the checkpoint does not fit or is in the way, or the loss is nan.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    if (run / CHECKPOINT).exists() and not resume:
        raise UserError(f"{run} holds a run already; resume it, or choose another folder")
    run.mkdir(parents=True, exist_ok=True)
    _Training(method, store, views, cfg, optim, run, config, probe).fit()


class _Training:
    """The part of a run that one process does."""

    def __init__(
        self,
        method: Method,
        store: Store,
        views: tuple[View, ...],
        cfg: TrainConfig,
        optim: OptimConfig,
        run: Path,
        config: Json,
        probe: Probe | None,
    ) -> None:
        self.method, self.cfg, self.optim, self.run, self.config, self.probe = method, cfg, optim, run, config, probe
        self.fabric = fabric = launch(cfg)
        self.loader = Loader(
            store,
            views,
            cfg.batch_size,
            seed=cfg.seed,
            device=fabric.device,
            rank=fabric.global_rank,
            world=fabric.world_size,
            accumulate=cfg.accumulate,
        )
        self.epoch = self.loader.steps_per_epoch
        self.steps = cfg.steps(self.epoch)
        prepare(method, fabric, cfg)
        optimizer = build_optimizer(method, optim)
        file = run / CHECKPOINT
        self.start = load_checkpoint(file, method, optimizer, config) if file.exists() else 0
        self.module, self.optimizer = connect(fabric, method, optimizer)
        self.saved = time.monotonic()

    def fit(self) -> None:
        """Takes the steps that are left."""
        writes = self.fabric.is_global_zero
        log_or_none = Log(self.run, self.start, self.steps, self.cfg.batch_size) if writes else nullcontext()
        batches = self.loader.batches(self.start, self.steps)
        with StopRequest() as stop, log_or_none as log, closing(batches):
            if log:
                log.say(self._description())
            for step in range(self.start, self.steps):
                done = step + 1
                clock = Clock(step, self.steps)
                seed_step(self.cfg.seed, step, self.fabric)
                lr = set_learning_rate(self.optimizer, self.optim, self.cfg, step, self.epoch)
                loss = self._backward(batches, clock)
                norm = self._clip(done)
                self.optimizer.step()
                self.optimizer.zero_grad()
                with torch.no_grad():
                    self.method.after_step(loss, clock)
                self._report(log, done, lr, loss, norm)
                self._pause(log, done, stop)

    def _backward(self, batches: Iterator[Batch], clock: Clock) -> Loss:
        """Gradients of the mean loss over the micro-batches of a step, and that loss without its graph."""
        losses = []
        for left in reversed(range(self.cfg.accumulate)):
            with self.fabric.no_backward_sync(self.module, enabled=left > 0):
                loss = self.module(next(batches), clock)
                self.fabric.backward(loss.total / self.cfg.accumulate)
            losses.append(detach(loss))
        return join(losses)

    def _clip(self, done: int) -> Tensor | None:
        """The norm of the gradient, where it is needed: to clip, or for the log."""
        if self.optim.clip is None and not self._logs(done):
            return None
        return clip_gradients(self.method.parameters(), self.optim.clip)

    def _logs(self, done: int) -> bool:
        return done % self.cfg.log_every == 0 or done % self.epoch == 0 or done == self.steps

    def _scores(self, done: int) -> bool:
        """Whether an epoch ends here after which the encoder is scored."""
        every = self.cfg.knn_every * self.epoch
        return self.probe is not None and every > 0 and done % every == 0

    def _report(self, log: Log | None, done: int, lr: float, loss: Loss, norm: Tensor | None) -> None:
        """A row of the log: means over processes, fetched from the device at once (only here does the loop wait)."""
        if not self._logs(done):
            return
        assert norm is not None
        named = {"loss": loss.total, **loss.terms, "grad_norm": norm}
        stacked = torch.stack([value.float() for value in named.values()])
        values = dict(zip(named, mean_over_processes(self.fabric, stacked).tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            raise UserError(
                f"the loss is {values['loss']} at step {done}, learning rate {self.optim.lr}: "
                f"{self.method.why_not_finite()}"
            )
        if log:
            speed = log.speed(done, self.loader.waited)
            scores = score(self.probe, self.method.encoder()) if self.probe and self._scores(done) else {}
            log.record(done, {"epoch": done / self.epoch, "lr": lr, **values, **speed, **scores})

    def _pause(self, log: Log | None, done: int, stop: StopRequest) -> None:
        """Between two steps: a checkpoint if it is time for one, and the end if somebody asked for it."""
        stopping = self._agree(stop, done)
        minutes = (time.monotonic() - self.saved) / 60
        late = minutes >= self.cfg.save_minutes if self.cfg.save_minutes else done % self.epoch == 0
        due = late and self._logs(done)  # where the loss is known to be finite
        if log and (stopping or due or done == self.steps):
            save_checkpoint(self.run / CHECKPOINT, done, self.method, self.optimizer, self.config)
            self.saved = time.monotonic()
        if stopping:
            self.fabric.barrier()
            raise Interrupted(
                f"stopped after step {done} of {self.steps}; go on with `limbeck resume {self.run}`", stop.code
            )

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
