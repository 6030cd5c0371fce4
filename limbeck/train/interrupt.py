"""Stop a run between two steps, with its state saved: on Ctrl-C, SIGTERM, a closed terminal, or a warning of SLURM."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from limbeck.core import slurm

HANGUP = getattr(signal, "SIGHUP", None)  # the terminal or the ssh session has ended; Windows has no such signal
SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None)


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run stopped on request and can be resumed; `code` is the exit code of the process (128 + signal)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class StopRequest:
    """While active, the first of `SIGNALS` only sets `requested`; a second one acts as without this class.

    A hangup is ignored where it was before, as under nohup. In a job of SLURM, SIGUSR1 is such a signal as well: the
    warning before the end of the job, which the run asks to be requeued.
    Python delivers signals to the main thread only; in any other thread nothing is ever requested.
    """

    def __init__(self) -> None:
        self.requested = False
        self.code = 128 + signal.SIGTERM
        """Exit code of a process that this signal ends."""
        self.is_warning = False
        """Whether the signal was SLURM's warning before the end of the job."""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            ignored = {HANGUP} if HANGUP and signal.getsignal(HANGUP) is signal.SIG_IGN else set()
            warning = (slurm.WARNING,) if slurm.WARNING and slurm.job_id() else ()
            self._previous = {n: signal.signal(n, self._request) for n in (*SIGNALS, *warning) if n not in ignored}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.code = 128 + number
        self.is_warning = number == slurm.WARNING
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
