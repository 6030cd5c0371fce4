"""Signals that end a command: it completes its files and prints one sentence."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NUMBERS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal other than that of Ctrl-C ended the command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise `Stopped` at SIGTERM, and at a hangup unless that is ignored, as under nohup.

    Training replaces these handlers by its own, which save the state first. The processes that it starts end as they
    would without.
    """
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread() and "LOCAL_RANK" not in os.environ:
        for number in NUMBERS:
            if signal.getsignal(number) is signal.SIG_DFL:
                previous[number] = signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)
