"""Workers of this machine: processes of their own, each of which does an order at a time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from queue import SimpleQueue

from limbeck.core.runners.run import Engine


def local_engine(workers: int) -> Engine:
    """Return an engine that sends orders to `workers` processes of this machine, which divide its cores among them."""

    def engine(orders: Iterator[str]) -> Iterator[tuple[str, str]]:
        idle: SimpleQueue[_Worker] = SimpleQueue()
        started = [_Worker(number, workers) for number in range(workers)]
        for worker in started:
            idle.put(worker)

        def perform(order: str) -> tuple[str, str]:
            worker = idle.get()
            try:
                return order, worker.perform(order)
            finally:
                idle.put(worker)

        with ThreadPoolExecutor(workers) as threads:
            pending: set[Future[tuple[str, str]]] = set()
            try:
                while True:
                    pending |= {threads.submit(perform, order) for order in islice(orders, workers - len(pending))}
                    if not pending:
                        return
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            finally:
                for worker in started:
                    worker.end()

    return engine


class _Worker:
    """A process that is started when there is an order for it, and again after it was killed."""

    def __init__(self, number: int, workers: int) -> None:
        threads = max(1, (os.cpu_count() or 1) // workers)
        self._variables = {"OMP_NUM_THREADS": str(threads)} | dict(os.environ)
        # LOCAL_RANK chooses the GPU; who started this process as one of several has set more, which is not the worker's
        self._variables |= {"LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(workers)}
        self._process: subprocess.Popen[str] | None = None

    def perform(self, order: str) -> str:
        """Return the outcome of an order; "" where the process ended first."""
        if self._process is None:
            command = [sys.executable, "-m", "limbeck.core.runners.worker"]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, env=self._variables, text=True, stdin=pipe, stdout=pipe)
        assert self._process.stdin, "a pipe"
        assert self._process.stdout, "a pipe"
        answer = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer.endswith("\n"):
            self.end()
            return ""
        return answer

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
