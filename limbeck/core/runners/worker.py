"""Work on one shard after another, each of them by a call of a function that is named.

`python -m limbeck.core.runners.worker` is a worker of this machine: it reads an order per line and prints an outcome
per line. Jobs of SLURM and tasks of Ray call `perform`.
"""

import json
import os
import socket
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple

from limbeck.core.config import Json
from limbeck.core.errors import UserError, one_line


class Order(NamedTuple):
    """A shard to be done."""

    task: str
    """The function, "package.module:function", of a specification and the number of a shard."""
    spec: Json
    shard: int
    folder: str
    """The working folder, from which paths start."""
    version: str
    """Of Limbeck, where the order comes from."""


class Outcome(NamedTuple):
    """Outcome of an order."""

    shard: int
    worker: str
    """Machine and process."""
    seconds: float
    error: str = ""
    code: str = ""
    """Of a `UserError`, which every worker would raise; another error may be one of this worker's."""


def perform(line: str) -> str:
    """Execute an order in JSON, and return the outcome in JSON; no error of the work is raised."""
    order = Order(**json.loads(line))
    began, error, code = time.monotonic(), "", ""
    try:
        check_version(order.version)
        os.chdir(order.folder)
        module, _, function = order.task.partition(":")
        getattr(import_module(module), function)(order.spec, order.shard)
    except UserError as mistake:
        error, code = str(mistake), mistake.code
    except Exception as failure:  # a driver of a GPU, a library, memory: another worker may succeed
        error = f"{type(failure).__name__}: {one_line(failure)}"
    return json.dumps(Outcome(order.shard, worker_name(), time.monotonic() - began, error, code)._asdict())


def worker_name() -> str:
    """Return machine and process, as `"node7:1234"`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def check_version(wanted: str) -> None:
    """Raise UserError where this worker has another version of Limbeck than the command."""
    if (own := version("limbeck")) != wanted:
        raise UserError(
            f"this worker has Limbeck {own} and the command that started it {wanted}: install the same version on all "
            "machines",
            code="other-version",
        )


def main() -> None:
    """Do the orders on stdin; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(perform(line), file=answers, flush=True)


if __name__ == "__main__":
    main()
