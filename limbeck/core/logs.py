"""Messages for people: the `limbeck` logger, on stderr and in the log file of a run.

Modules write with `logging.getLogger(__name__)`. INFO is what was chosen and how it goes, WARNING is what should be
looked at, DEBUG is detail. With several processes only rank 0 writes.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limbeck.core.rank import is_rank0
from limbeck.core.text import printable_lines

ROOT = logging.getLogger("limbeck")


class _PlainFormatter(logging.Formatter):
    """Print the bare sentence, preceded by the level from WARNING upwards."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable_lines(super().format(record))
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


def configure(level: int = logging.INFO) -> None:
    """Send messages of at least `level` to stderr; calling it again changes the level."""
    if not any(isinstance(handler, _StderrHandler) for handler in ROOT.handlers):
        ROOT.addHandler(_StderrHandler())
    ROOT.setLevel(level)


def ensure_visible() -> None:
    """Call `configure` unless the application has set up logging itself."""
    if not ROOT.handlers and not logging.getLogger().handlers:
        configure()


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append messages with their time to the file `path` while the block runs, on rank 0 alone."""
    if not is_rank0():
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ROOT.addHandler(handler)
    try:
        yield
    finally:
        ROOT.removeHandler(handler)
        handler.close()
