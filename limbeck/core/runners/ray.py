"""Workers that are tasks of Ray, in a cluster that is joined by its address or started on this machine."""

import re
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from limbeck.core.errors import UserError, one_line
from limbeck.core.runners.run import Engine
from limbeck.core.runners.worker import perform

HOST_AND_PORT = re.compile(r"(?:ray://)?\[?([^\]/]+?)\]?:(\d+)")
PATIENCE = 10.0  # seconds for a cluster to answer: Ray itself would try for half an hour


def ray_engine(workers: int, arguments: Mapping[str, Any]) -> Engine:
    """Return an engine that sends orders to tasks of Ray, of which `workers` run at the same time.

    Args:
        workers: tasks that run at the same time.
        arguments: of `ray.init`, such as `address`; `num_cpus` and `num_gpus` per task under the key `task`.

    Raises:
        UserError: there is no cluster at the address, or Ray does not start with these arguments.
    """
    import ray

    start = {"log_to_driver": False, "include_dashboard": False, "logging_level": "warning"}
    start |= {name: value for name, value in arguments.items() if name != "task"}
    try:
        if not ray.is_initialized():
            _reach(str(start.get("address", "")))
            with _own_handler():
                ray.init(**start)
        remote = ray.remote(max_retries=0, **arguments.get("task", {"num_cpus": 1}))(perform)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"Ray does not start with {dict(arguments)} ({one_line(error):.200}): check --runner-args, and that the "
            "cluster is there, or take the runner local",
            code="ray-failed",
        ) from error

    def engine(orders: Iterator[str]) -> Iterator[tuple[str, str]]:
        pending: dict[Any, str] = {}
        while True:
            for order in islice(orders, workers - len(pending)):
                pending[remote.remote(order)] = order
            if not pending:
                return
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                yield pending.pop(reference), _answer(ray, reference)

    return engine


@contextmanager
def _own_handler() -> Iterator[None]:
    """Keep what this process does at SIGTERM: Ray would end it with the number of the signal as its status."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is not before:
            signal.signal(signal.SIGTERM, before)


def _reach(address: str) -> None:
    """Raise OSError where nobody listens at an address `host:port`."""
    if found := HOST_AND_PORT.fullmatch(address):
        socket.create_connection((found[1], int(found[2])), PATIENCE).close()


def _answer(ray: Any, reference: Any) -> str:
    """Return the outcome of a task; "" where its process ended without one."""
    try:
        answer: str = ray.get(reference)
        return answer
    except ray.exceptions.RayError:
        return ""
