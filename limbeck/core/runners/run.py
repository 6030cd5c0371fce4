"""Hand the shards of a piece of work to workers: one progress line, a journal, and a second try for what failed."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import Any, Literal

from limbeck.core.config import Json
from limbeck.core.errors import UserError
from limbeck.core.packages import require
from limbeck.core.progress import progress_bar
from limbeck.core.runners.worker import Order, Outcome, worker_name

RunnerName = Literal["local", "slurm", "ray"]
TRIES = 3  # of a shard whose worker failed or was killed
KILLED = "its process ended without an answer, as if it was killed or ran out of memory"
Advance = Callable[[int], None]
Engine = Callable[[Iterator[str]], Iterator[tuple[str, str]]]
"""From orders to pairs of an order and its outcome as they come, "" where the worker was lost."""


@dataclass(frozen=True, kw_only=True)
class RunnerConfig:
    """Who works on shards."""

    runner: RunnerName | None = None
    """Processes of this machine, jobs of SLURM or tasks of Ray; None: this process alone."""
    workers: int = 1
    """Shards that are worked on at the same time."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """For SLURM what submitit calls parameters, for Ray the arguments of `ray.init`."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        if self.workers < 1:
            raise UserError(f"{self.workers} workers cannot do anything: give 1 or more", code="bad-workers")
        if self.args and self.runner not in ("slurm", "ray"):
            raise UserError(
                f"{', '.join(self.args)}: only the runners slurm and ray have arguments: leave --runner-args out, or "
                "give --runner slurm or ray",
                code="no-runner-args",
            )


@dataclass(frozen=True, kw_only=True)
class ShardWork:
    """Work that consists of shards, which depend on nothing but the specification and their number."""

    task: str
    """The function of a specification and a shard that a worker calls, "package.module:function"."""
    spec: Json
    here: Callable[[int, Advance], None]
    """The same in this process, of a shard; calls `Advance` with the units that are done."""
    size: Callable[[int], int]
    """Units of a shard, for the progress line."""
    journal: Path
    """A line per shard that was done or failed: who, how long, the error."""
    description: str
    unit: str = "images"


def run_shards(work: ShardWork, shards: Sequence[int], cfg: RunnerConfig) -> None:
    """Do these shards of a piece of work; when it returns, the files of all of them are there.

    A worker that fails or is killed costs its shard, which another one gets; what is done stays done.

    Raises:
        UserError: a shard cannot be done (shard and worker are named), or the runner is not there.
    """
    if not shards:
        return
    total = sum(map(work.size, shards))
    with progress_bar(total, work.description, unit=work.unit) as bar, _journal(work.journal) as note:
        if cfg.runner is None:
            for shard in shards:
                began = time.monotonic()
                work.here(shard, bar.advance)
                note(Outcome(shard, worker_name(), time.monotonic() - began))
            return
        for outcome in _outcomes(engine_of(cfg), work, shards):
            note(outcome)
            if not outcome.error:
                bar.advance(work.size(outcome.shard))


def check_runner(cfg: RunnerConfig) -> None:
    """Raise UserError unless the library and the program of a runner are installed; nothing is imported."""
    if cfg.runner in ("slurm", "ray"):
        package = {"slurm": "submitit", "ray": "ray"}[cfg.runner]
        require(cfg.runner, package, purpose=f"the runner {cfg.runner}")
    if cfg.runner == "slurm" and which("sbatch") is None:
        raise UserError(
            "the runner slurm needs the program sbatch, which is not on this machine: start the command on a machine "
            "of a cluster, or take the runner local",
            code="no-slurm",
        )


def engine_of(cfg: RunnerConfig) -> Engine:
    """Return the engine that sends orders to workers; see `check_runner`."""
    if cfg.runner == "slurm":
        from limbeck.core.runners.slurm import slurm_engine

        return slurm_engine(cfg.workers, cfg.args)
    if cfg.runner == "ray":
        from limbeck.core.runners.ray import ray_engine

        return ray_engine(cfg.workers, cfg.args)
    from limbeck.core.runners.local import local_engine

    return local_engine(cfg.workers)


def _outcomes(engine: Engine, work: ShardWork, shards: Sequence[int]) -> Iterator[Outcome]:
    """Yield what became of every order; raise UserError when a shard failed for good, after those under way."""
    tries, failed = dict.fromkeys(shards, 0), list[Outcome]()
    waiting = list(reversed(shards))

    def orders() -> Iterator[str]:
        while waiting and not failed:
            yield _order(work, waiting.pop())

    while waiting and not failed:
        for line, answer in engine(orders()):
            shard = int(json.loads(line)["shard"])
            outcome = Outcome(**json.loads(answer)) if answer else Outcome(shard, "lost", 0.0, KILLED)
            yield outcome
            tries[shard] += 1
            if outcome.error and (outcome.code or tries[shard] == TRIES):
                failed.append(outcome)
            elif outcome.error:
                waiting.append(shard)
    if failed:
        first = failed[0]
        raise UserError(
            f"shard {first.shard} of {work.description} failed on the worker {first.worker}: {first.error}; the other "
            "shards that are done stay done: mend this, then repeat the command",
            code=first.code or "shard-failed",
        )


def _order(work: ShardWork, shard: int) -> str:
    return json.dumps(Order(work.task, work.spec, shard, os.getcwd(), version("limbeck"))._asdict())


@contextmanager
def _journal(path: Path) -> Iterator[Callable[[Outcome], None]]:
    with path.open("a", encoding="utf-8") as file:

        def note(outcome: Outcome) -> None:
            line = outcome._asdict() | {"time": time.time()}
            file.write(json.dumps(line) + "\n")
            file.flush()

        yield note
