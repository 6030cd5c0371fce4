"""One optimizer step: what every process does between two rows of the log."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limbeck.core.types import Batch, Dataset, LossOutput, StepInfo
from limbeck.data.loader import Loader
from limbeck.data.sampling import ALL_ROWS, SamplingPlan
from limbeck.methods.base import Method
from limbeck.models.patch_drop import add_patch_drop
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.launch import connect, launch, mean_over_processes, prepare, scaler_of, seed_step
from limbeck.train.loading import BatchLoader, LoaderFactory
from limbeck.train.optim import build_optimizer, clip_gradients, set_learning_rate


class StepResult(NamedTuple):
    """Result of an optimizer step."""

    lr: float
    loss: LossOutput  # without its graph
    grad_norm: Tensor | None  # None if it was not measured


class StepRunner:
    """Takes optimizer steps, in any order; the constructor starts the processes of the run.

    Attributes:
        method: the module that is trained, in place.
        loader: the batches of this process.
        optimizer: over the parameters of `method`.
        fabric: device, precision and processes.
        steps_per_epoch: optimizer steps of an epoch.
        total_steps: optimizer steps of the run.
        small_steps: how many of them, from the first, have smaller views.
        scaler: scales the loss in fp16; it skips a step in which a scaled gradient is not finite.
    """

    loader: BatchLoader

    def __init__(
        self,
        method: Method,
        store: Dataset,
        views: tuple[Any, ...],
        cfg: TrainConfig,
        optim: OptimConfig,
        sampling: SamplingPlan = ALL_ROWS,
        loader: LoaderFactory = Loader,
    ) -> None:
        self.method, self.optim = method, optim
        self.fabric = fabric = launch(cfg)
        self.loader = loader(
            store,
            views,
            cfg.batch_size,
            seed=cfg.seed,
            device=fabric.device,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            accumulate_steps=cfg.accumulate_steps,
            sampling=sampling,
        )
        self.cfg = cfg = cfg.with_epochs(self.loader.count, fabric.device.type)
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.total_steps = cfg.total_steps(self.steps_per_epoch)
        self.small_steps = cfg.small_steps(self.total_steps)
        self._patch_drops = add_patch_drop(method, cfg.patch_drop_rate) if cfg.patch_drop_rate else []
        prepare(method, fabric, cfg)
        self.scaler = scaler_of(fabric)
        self.module, self.optimizer = connect(fabric, method, build_optimizer(method, optim, fused=self.scaler is None))

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """Yield the batches of the optimizer steps `start` to `stop` (exclusive), as the run has them."""
        return self.loader.batches(start, stop, self.small_steps)

    def train_step(
        self,
        batches: Iterator[Batch],
        step: int,
        *,
        measure_norm: bool = False,
        before_update: Callable[[LossOutput], None] = lambda loss: None,
    ) -> StepResult:
        """Take optimizer step `step`.

        Args:
            batches: where the next micro-batches come from.
            step: number of the step, from 0.
            measure_norm: measure the norm of the gradient, also if it is not needed for clipping.
            before_update: called with the loss when the gradients are complete and nothing has changed yet.
        """
        step_info = StepInfo(step, self.total_steps)
        seed_step(self.cfg.seed, step, self.fabric)
        lr = set_learning_rate(self.optimizer, self.optim, self.cfg, step, self.steps_per_epoch)
        loss = self.accumulate_gradients(batches, step_info)
        before_update(loss)
        measured = measure_norm or self.optim.clip_grad_norm is not None
        if measured and self.scaler:
            self.scaler.unscale_(self.optimizer.optimizer)
        grad_norm = clip_gradients(self.method.parameters(), self.optim.clip_grad_norm) if measured else None
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.method.after_step(loss, step_info)
        return StepResult(lr, loss, grad_norm)

    def accumulate_gradients(self, batches: Iterator[Batch], step_info: StepInfo) -> LossOutput:
        """Compute the gradients of the mean loss over the micro-batches of a step; return that loss without a graph."""
        losses = []
        for remaining in reversed(range(self.cfg.accumulate_steps)):
            with self.fabric.no_backward_sync(self.module, enabled=remaining > 0):
                batch = next(batches)
                for patch_drop in self._patch_drops:
                    patch_drop.begin(batch.host_rows[0], self.cfg.seed, step_info.step)
                loss = self.module(batch, step_info)
                self.fabric.backward(loss.total / self.cfg.accumulate_steps)
            losses.append(detach(loss))
        return join(losses)

    def mean_values(self, result: StepResult) -> dict[str, float]:
        """Return loss, terms and gradient norm, averaged over processes and fetched from the device at once."""
        assert result.grad_norm is not None, "measure the norm in a step whose values are needed"
        named = {"loss": result.loss.total, **result.loss.terms, "grad_norm": result.grad_norm}
        stacked = torch.stack([value.float() for value in named.values()])
        return dict(zip(named, mean_over_processes(self.fabric, stacked).tolist(), strict=True))


def join(losses: list[LossOutput]) -> LossOutput:
    """Join the losses of micro-batches into that of their step: mean of total and terms, concatenation of memory."""
    if len(losses) == 1:
        return losses[0]
    total = torch.stack([loss.total for loss in losses]).mean()
    terms = {name: torch.stack([loss.terms[name] for loss in losses]).mean() for name in losses[0].terms}
    memory = {name: torch.cat([loss.memory[name] for loss in losses]) for name in losses[0].memory}
    return LossOutput(total, terms, memory)


def detach(loss: LossOutput) -> LossOutput:
    """Return the same numbers without the graph that they came from."""
    terms = {name: term.detach() for name, term in loss.terms.items()}
    return LossOutput(loss.total.detach(), terms, {name: rows.detach() for name, rows in loss.memory.items()})
