"""Ctrl-C and SIGTERM stop a run between two steps, with its state saved."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run stopped on request and can be resumed; `code` is what the process should exit with (128 + signal)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class StopRequest:
    """While active, the first SIGINT or SIGTERM only sets `asked`; a second one acts as it did before.

    Python lets the main thread alone handle signals; in another one nothing is ever asked.
    """

    def __init__(self) -> None:
        self.asked = False
        self.code = 128 + signal.SIGTERM
        """Exit code of a process that this signal ends."""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.code = 128 + number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
