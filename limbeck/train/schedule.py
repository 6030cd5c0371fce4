"""Decide which actions are due after an optimizer step."""

from typing import NamedTuple

from limbeck.train.config import TrainConfig


class Due(NamedTuple):
    """Actions that are due after a step. Readings and evaluations are part of a row of the log: they imply `log`."""

    log: bool
    health: bool
    evaluation: bool
    epoch_end: bool


class Schedule:
    """The rhythm of a run: a row of the log every few steps, after every epoch and at the end."""

    def __init__(self, cfg: TrainConfig, steps_per_epoch: int, total_steps: int, evaluates: bool) -> None:
        self._cfg, self._steps_per_epoch, self._total_steps = cfg, steps_per_epoch, total_steps
        self._evaluates = evaluates and cfg.eval_every_epochs > 0

    def after(self, step: int) -> Due:
        """Return the actions that are due after `step` steps."""
        end, epoch_end = step == self._total_steps, step % self._steps_per_epoch == 0
        every = self._cfg.health_every_steps
        health = every > 0 and (end or step % every == 0)
        evaluation = self._evaluates and (end or step % (self._cfg.eval_every_epochs * self._steps_per_epoch) == 0)
        return Due(end or epoch_end or health or step % self._cfg.log_every_steps == 0, health, evaluation, epoch_end)
