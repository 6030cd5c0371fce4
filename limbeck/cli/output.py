"""Print the result of a command as text or JSON, or its error with the exit status."""

import errno
import json
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

from limbeck.cli.command import Output, UsageError
from limbeck.cli.signals import Stopped
from limbeck.core.disk import DISK_FULL, REFUSED, reason
from limbeck.core.errors import UserError, one_line
from limbeck.core.text import printable, printable_lines

if TYPE_CHECKING:
    from rich.console import Console

USAGE, WRONG_INPUT, UNEXPECTED, INTERRUPTED = 2, 1, 3, 130
OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "failed to map segment")
"""Parts of the messages of torch, whose errors are RuntimeErrors on a CPU."""
REPORTED = ("limbeck", "torch", "timm", "lightning-fabric", "numpy")
"""Packages with versions in the file of an unexpected error."""


class Failure(NamedTuple):
    """An error as it is printed."""

    status: int
    code: str
    message: str
    traceback_file: str | None = None


def show(output: Output, *, as_json: bool) -> None:
    """Print a result on stdout; with several processes on rank 0 alone."""
    from limbeck.core.rank import is_rank0

    if not is_rank0():
        return
    if as_json:
        error = {"error": _as_json(as_failure(output.error, []))} if output.error else {}
        print(json.dumps({**output.data, **error}))
        return
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)  # names may hold brackets and colons
    for item in output.text:
        print(printable_lines(item)) if isinstance(item, str) else _print_table(console, item)


def _print_table(console: "Console", table: Any) -> None:
    """Print something of rich's, of whose cells the terminal obeys none."""
    from rich.segment import Segment, Segments

    segments = console.render(table)
    console.print(Segments([s if s.control else Segment(printable_lines(s.text), s.style) for s in segments]))


def show_failure(failure: Failure, *, as_json: bool, verbose: bool) -> None:
    """Print an error in one sentence on stderr and, with `as_json`, as an object on stdout."""
    code = f" [{failure.code}]" if verbose else ""
    print(printable(f"limbeck: {failure.message}{code}"), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": _as_json(failure)}))


def as_failure(error: BaseException, argv: Sequence[str]) -> Failure:
    """Return the message of an error; an unexpected one gets a file with its traceback."""
    if isinstance(error, UserError):
        return Failure(USAGE if isinstance(error, UsageError) else WRONG_INPUT, error.code, str(error))
    if isinstance(error, Stopped):
        return Failure(128 + error.number, "interrupted", f"stopped by {signal.Signals(error.number).name}")
    if isinstance(error, KeyboardInterrupt):
        return Failure(INTERRUPTED, "interrupted", "interrupted")
    if isinstance(error, OSError) and error.errno in (*DISK_FULL, *REFUSED):
        return _refused(error)
    if isinstance(error, MemoryError) or any(word in str(error).lower() for word in OUT_OF_MEMORY):
        message = f"there is not enough memory ({one_line(error):.160}): take a smaller batch, network or image size"
        return Failure(WRONG_INPUT, "out-of-memory", message)
    from limbeck.train.interrupt import Interrupted

    if isinstance(error, Interrupted):
        return Failure(error.code, "interrupted", str(error))
    file = _write_traceback(error, argv)
    place = f"the traceback is in {file}" if file else "there is no room for a file with the traceback"
    message = (
        f"unexpected {type(error).__name__}: {one_line(error)}; {place}. "
        "This is probably a defect of Limbeck: please report it with that file"
    )
    return Failure(UNEXPECTED, "unexpected", message, file)


def _refused(error: OSError) -> Failure:
    """Return the failure for a file that the operating system does not let the program read or write."""
    place = f"'{error.filename}'" if error.filename else "a file, or the standard output,"
    ways = dict.fromkeys(DISK_FULL, "free some space") | {errno.ENAMETOOLONG: "give a shorter name"}
    way = ways.get(error.errno or 0, "change its permissions, or choose another place")
    return Failure(WRONG_INPUT, "not-accessible", f"{place} cannot be read or written ({reason(error)}): {way}")


def _as_json(failure: Failure) -> dict[str, str]:
    found = {"code": failure.code, "message": failure.message}
    return found | ({"traceback_file": failure.traceback_file} if failure.traceback_file else {})


def _write_traceback(error: BaseException, argv: Sequence[str]) -> str | None:
    """Write command, versions and traceback to a new temporary file and return its path; None if there is no room."""
    lines = [f"command: limbeck {' '.join(argv)}", f"Python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name} {_version(name)}" for name in REPORTED]
    text = "\n".join(lines) + "\n\n" + "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="limbeck-error-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError:
        return None
    return file.name


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
