"""Workers that are jobs of SLURM, submitted as arrays by submitit."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from limbeck.core.errors import UserError, one_line
from limbeck.core.runners.run import Engine
from limbeck.core.runners.worker import perform

CLUSTER = "slurm"
LOGS = Path(".limbeck-slurm")
SECONDS = 5.0  # between two looks at the queue
SHARDS_AT_ONCE = 1000  # jobs of an array: clusters limit them


def slurm_engine(workers: int, parameters: Mapping[str, Any]) -> Engine:
    """Return an engine that sends orders to jobs of SLURM, of which `workers` run at the same time.

    Args:
        workers: jobs that run at the same time.
        parameters: of submitit, such as `slurm_partition`, `timeout_min`, `gpus_per_node` and `cpus_per_task`.

    Raises:
        UserError: submitit does not know a parameter; the engine, too, where SLURM takes no jobs.
    """
    import submitit

    executor = submitit.AutoExecutor(folder=LOGS, cluster=CLUSTER)
    with _refusals(parameters):
        executor.update_parameters(slurm_array_parallelism=workers, **parameters)

    def engine(orders: Iterator[str]) -> Iterator[tuple[str, str]]:
        while some := list(islice(orders, SHARDS_AT_ONCE)):
            with _refusals(parameters):
                waiting = list(zip(some, executor.map_array(perform, some), strict=True))
            try:
                while waiting:
                    done = [pair for pair in waiting if pair[1].done()]
                    waiting = [pair for pair in waiting if pair not in done]
                    for order, job in done:
                        yield order, _answer(job)
                    if waiting and not done:
                        time.sleep(SECONDS)
            finally:
                for _, job in waiting:
                    job.cancel()

    return engine


@contextmanager
def _refusals(parameters: Mapping[str, Any]) -> Iterator[None]:
    """Turn what submitit raises, of parameters or of what sbatch says, into a UserError."""
    try:
        yield
    except Exception as error:  # its own kinds, and NameError, TypeError and AssertionError for parameters
        raise UserError(
            f"SLURM takes no jobs with {dict(parameters)} ({one_line(error):.300}): check --runner-args, or what "
            "sbatch says about them",
            code="slurm-failed",
        ) from error


def _answer(job: Any) -> str:
    """Return the outcome of a job; "" where it ended without one."""
    try:
        answer: str = job.result()
        return answer
    except Exception:  # of submitit: the job was killed, timed out, or its node failed
        return ""
