"""Optimiser steps, one like the other: what one process does between two looks at the numbers."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.core.types import Batch, LossOutput, StepInfo
from limbeck.data.loader import Loader
from limbeck.data.sampling import ALL_ROWS, SamplingPlan, ViewSpec
from limbeck.data.store.store import Store
from limbeck.methods.base import Method
from limbeck.train.config import TrainConfig
from limbeck.train.launch import connect, launch, prepare, seed_step
from limbeck.train.optim import OptimConfig, build_optimizer, clip_gradients, set_learning_rate


class StepResult(NamedTuple):
    """What a step tells: its learning rate, its loss without a graph, and the gradient's norm if it was asked for."""

    lr: float
    loss: LossOutput
    norm: Tensor | None


class Steps:
    """Takes the steps of a run, in whatever order it is asked for; the processes are started here."""

    def __init__(
        self,
        method: Method,
        store: Store,
        views: tuple[ViewSpec, ...],
        cfg: TrainConfig,
        optim: OptimConfig,
        sampling: SamplingPlan = ALL_ROWS,
    ) -> None:
        self.method, self.cfg, self.optim = method, cfg, optim
        self.fabric = fabric = launch(cfg)
        self.loader = Loader(
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
        self.epoch = self.loader.steps_per_epoch
        self.count = cfg.steps(self.epoch)
        prepare(method, fabric, cfg)
        self.module, self.optimizer = connect(fabric, method, build_optimizer(method, optim))

    def take(
        self,
        batches: Iterator[Batch],
        step: int,
        *,
        norm: bool = False,
        before_update: Callable[[LossOutput], None] = lambda loss: None,
    ) -> StepResult:
        """An optimiser step.

        Args:
            norm: measure the norm of the gradient, also where it is not needed for clipping.
            before_update: called when the gradients are there, and nothing has changed yet.
        """
        step_info = StepInfo(step, self.count)
        seed_step(self.cfg.seed, step, self.fabric)
        lr = set_learning_rate(self.optimizer, self.optim, self.cfg, step, self.epoch)
        loss = self.backward(batches, step_info)
        before_update(loss)
        wanted = norm or self.optim.clip_grad_norm is not None
        measured = clip_gradients(self.method.parameters(), self.optim.clip_grad_norm) if wanted else None
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.method.after_step(loss, step_info)
        return StepResult(lr, loss, measured)

    def backward(self, batches: Iterator[Batch], step_info: StepInfo) -> LossOutput:
        """Gradients of the mean loss over the micro-batches of a step, and that loss without its graph."""
        losses = []
        for left in reversed(range(self.cfg.accumulate_steps)):
            with self.fabric.no_backward_sync(self.module, enabled=left > 0):
                loss = self.module(next(batches), step_info)
                self.fabric.backward(loss.total / self.cfg.accumulate_steps)
            losses.append(detach(loss))
        return join(losses)


def join(losses: list[LossOutput]) -> LossOutput:
    """The loss of a step from those of its micro-batches: means of total and terms, rows of memory joined."""
    if len(losses) == 1:
        return losses[0]
    total = torch.stack([loss.total for loss in losses]).mean()
    terms = {name: torch.stack([loss.terms[name] for loss in losses]).mean() for name in losses[0].terms}
    memory = {name: torch.cat([loss.memory[name] for loss in losses]) for name in losses[0].memory}
    return LossOutput(total, terms, memory)


def detach(loss: LossOutput) -> LossOutput:
    """The same numbers without the graph that they came from."""
    terms = {name: term.detach() for name, term in loss.terms.items()}
    return LossOutput(loss.total.detach(), terms, {name: rows.detach() for name, rows in loss.memory.items()})
