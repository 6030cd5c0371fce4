"""Workers that are tasks of Ray, in a cluster that is joined by its address or started on this machine."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from limbeck.core.runners.run import Engine
from limbeck.core.runners.worker import perform


def ray_engine(workers: int, arguments: Mapping[str, Any]) -> Engine:
    """Return what carries orders to tasks of Ray, of which `workers` run at the same time.

    Args:
        workers: tasks that run at the same time.
        arguments: of `ray.init`, such as `address`; `num_cpus` and `num_gpus` per task under the key `task`.
    """
    import ray

    start = {"log_to_driver": False, "include_dashboard": False, "logging_level": "warning"}
    start |= {name: value for name, value in arguments.items() if name != "task"}
    if not ray.is_initialized():
        ray.init(**start)
    remote = ray.remote(max_retries=0, **arguments.get("task", {"num_cpus": 1}))(perform)

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


def _answer(ray: Any, reference: Any) -> str:
    """Return the outcome of a task; "" where its process ended without one."""
    try:
        answer: str = ray.get(reference)
        return answer
    except ray.exceptions.RayError:
        return ""
