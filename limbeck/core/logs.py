"""Messages for people: the `limbeck` logger, on stderr and in the log file of a run.

Modules write with `logging.getLogger(__name__)`. INFO is what was chosen and how it goes, WARNING is what should be
looked at, DEBUG is detail. With several processes only rank 0 writes.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck.core.errors import one_line
from limbeck.core.rank import is_rank0
from limbeck.core.text import printable, printable_lines

ROOT = logging.getLogger("limbeck")


class _SafeFormatter(logging.Formatter):
    """Escape what a terminal would obey, and in arguments, which may be names, the line breaks as well."""

    def format(self, record: logging.LogRecord) -> str:
        safe = logging.makeLogRecord(vars(record))
        if isinstance(record.args, tuple):
            safe.args = tuple(_without_lines(value) for value in record.args)
        return printable_lines(super().format(safe))


def _without_lines(value: Any) -> Any:
    return printable(str(value)) if isinstance(value, str | os.PathLike | BaseException) else value


class _PlainFormatter(_SafeFormatter):
    """Print the bare sentence, preceded by the level from WARNING upwards."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Write to whatever `sys.stderr` is at the time of the message."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_PlainFormatter())
        self.addFilter(lambda record: is_rank0())

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _FileHandler(logging.FileHandler):
    """Append to a file; messages from before `begin` are written then, or else dropped.

    A run that fails before it starts leaves nothing behind, and nothing in the folder of another run.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.setFormatter(_SafeFormatter("%(asctime)s %(levelname)s %(message)s"))
        self.addFilter(lambda record: is_rank0())
        self._begun, self._early = False, list[logging.LogRecord]()

    def begin(self) -> None:
        self._begun = True
        early, self._early = self._early, []
        for message in early:
            self.emit(message)

    def emit(self, record: logging.LogRecord) -> None:
        if self._begun:
            super().emit(record)
        else:
            self._early.append(record)


def configure(level: int = logging.INFO) -> None:
    """Send messages of at least `level` to stderr; calling it again changes the level. Log files have INFO at least."""
    handlers = [handler for handler in ROOT.handlers if isinstance(handler, _StderrHandler)] or [_StderrHandler()]
    ROOT.addHandler(handlers[0])
    handlers[0].setLevel(level)
    ROOT.setLevel(min(level, logging.INFO))
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns of a CUDA compiler without a GPU


def ensure_visible() -> None:
    """Call `configure` unless the application has set up logging itself."""
    if not ROOT.handlers and not logging.getLogger().handlers:
        configure()


@contextmanager
def only_errors() -> Iterator[None]:
    """Log nothing but errors while the block runs: for work that is done again, and then logs what it has to say."""
    level = ROOT.level
    ROOT.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ROOT.setLevel(level)


@contextmanager
def log_file(path: Path) -> Iterator[Callable[[], None]]:
    """Append messages with their time to the file `path` while the block runs, the error that ends it included.

    Yield a function to call once the folder of `path` is ours; before, nothing is written.

    The level of the `limbeck` logger counts; it is INFO unless the application has set another one.
    """
    handler, level = _FileHandler(path), ROOT.level
    ROOT.addHandler(handler)
    ROOT.setLevel(level or logging.INFO)
    try:
        yield handler.begin
    except BaseException as error:
        handler.handle(ROOT.makeRecord(ROOT.name, logging.ERROR, "", 0, one_line(error), (), None))
        raise
    finally:
        ROOT.removeHandler(handler)
        ROOT.setLevel(level)
        handler.close()
