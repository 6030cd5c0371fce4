"""Stop a run between two steps, with its state saved, on Ctrl-C or SIGTERM."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run stopped on request and can be resumed; `code` is the exit code of the process (128 + signal)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class StopRequest:
    """While active, the first SIGINT or SIGTERM only sets `requested`; a second one acts as without this class.

    Python delivers signals to the main thread only; in any other thread nothing is ever requested.
    """

    def __init__(self) -> None:
        self.requested = False
        self.code = 128 + signal.SIGTERM
        """Exit code of a process that this signal ends."""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.code = 128 + number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
