"""What all commands share: help, version, output as JSON, exit statuses, and the file of an unexpected error."""

import ast
import errno
import json
import pkgutil
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import limbeck
from limbeck import cli
from limbeck.cli.signals import NUMBERS
from limbeck.core.errors import UserError
from limbeck.train.interrupt import Interrupted
from tests.helpers.commands import Run


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Make `limbeck methods` raise the last exception of the list."""
    errors: list[BaseException] = []

    def fail(args: Any) -> cli.Output:
        raise errors[-1]

    monkeypatch.setitem(cli.VERBS, "methods", cli.VERBS["methods"]._replace(run=fail))
    return errors


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys, limbeck, limbeck.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    done = subprocess.run([sys.executable, "-m", "limbeck.cli", "--help"], capture_output=True, text=True, check=True)
    for verb in (*cli.VERBS, "help"):
        assert re.search(rf"^  {verb} +[A-Z]", done.stdout, re.M)
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_command_has_examples_and_the_common_flags(limbeck: Run, verb: str) -> None:
    code, out, _ = limbeck("help", verb)
    assert (code, out) == limbeck(verb, "--help")[:2]
    assert verb == "methods" or re.search(rf"^Examples:\n  limbeck {verb}", out, re.M)
    for flag in ("--json", "--quiet", "--verbose"):
        assert flag in out
    assert not re.search(r"[{|]None\b", out)
    assert "digest" not in re.findall(r"--[\w.-]+", out)


def test_the_version_is_that_of_the_package(limbeck: Run) -> None:
    assert limbeck("--version") == (0, f"limbeck {sys.modules['limbeck'].__version__}\n", "")


def test_without_a_command_the_help_is_printed_and_the_status_is_that_of_a_mistake(limbeck: Run) -> None:
    code, out, _ = limbeck()
    assert code == 2
    assert out == limbeck("help")[1] == limbeck("--help")[1]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UserError("no such thing", code="some-code"), 1, "some-code"),
        (cli.UsageError("no such flag", code="some-flag"), 2, "some-flag"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted("stopped after step 3", 128 + signal.SIGTERM), 143, "interrupted"),
        (ZeroDivisionError("division by zero"), 3, "unexpected"),
        (PermissionError(errno.EACCES, "Permission denied", "/some/file"), 1, "not-accessible"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "not-accessible"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_an_error_is_one_sentence_a_status_and_a_code(
    limbeck: Run, failing: list[BaseException], error: BaseException, status: int, code: str
) -> None:
    failing.append(error)
    found, out, err = limbeck("methods")
    assert (found, out) == (status, "")
    assert err.count("\n") == 1
    assert err.startswith("limbeck: ")
    text = "/some/file" if isinstance(error, PermissionError) else "" if isinstance(error, OSError) else str(error)
    assert text in err
    found, out, err = limbeck("methods", "--json", "--verbose")
    assert found == status
    assert json.loads(out)["error"]["code"] == code
    assert text in json.loads(out)["error"]["message"]
    assert f"[{code}]" in err


def test_a_result_with_a_mistake_is_one_object(limbeck: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = cli.Output({"images": 3}, ["three"], UserError("too many", code="some-code"))
    monkeypatch.setitem(cli.VERBS, "methods", cli.VERBS["methods"]._replace(run=lambda args: result))
    status, out, err = limbeck("methods", "--json")
    assert (status, err) == (1, "limbeck: too many\n")
    assert json.loads(out) == {"images": 3, "error": {"code": "some-code", "message": "too many"}}


def test_an_unexpected_error_leaves_a_file_with_the_traceback(
    limbeck: Run, failing: list[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing.append(ZeroDivisionError("by 0"))
    _, _, err = limbeck("methods", "--quiet")
    (file,) = tmp_path.iterdir()
    assert str(file) in err
    text = file.read_text()
    assert "Traceback" in text
    assert "ZeroDivisionError: by 0" in text
    assert "command: limbeck methods --quiet" in text
    assert f"limbeck {sys.modules['limbeck'].__version__}" in text
    assert re.search(r"^torch \d", text, re.M)
    assert "Traceback" not in err
    assert "Traceback" in limbeck("methods", "--verbose")[2]


def test_an_unexpected_error_without_room_for_a_file_is_still_a_sentence(
    limbeck: Run, failing: list[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    failing.append(ZeroDivisionError("by 0"))
    status, _, err = limbeck("methods", "--quiet")
    assert (status, err.count("\n")) == (3, 1)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_a_command_with_a_sentence(
    limbeck: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)

    def wait(args: object) -> cli.Output:
        signal.raise_signal(number)
        return cli.Output({})

    command = cli.VERBS["methods"]._replace(run=wait)
    monkeypatch.setitem(cli.VERBS, "methods", command)
    status, _, err = limbeck("methods", "--quiet")
    assert (status, err.count("\n")) == (128 + number, 1)
    assert number.name in err
    assert signal.getsignal(number) is before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_a_sentence() -> None:
    script = f"{sys.executable} -m limbeck.cli --help > /dev/full"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_no_cell_of_a_table_is_obeyed_by_the_terminal(limbeck: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def table(args: Any) -> cli.Output:
        from rich.table import Table
        from rich.text import Text

        rows = Table("path")
        rows.add_row(Text("\x1b]0;x\x07\u202e.png"))
        return cli.Output({}, [rows])

    monkeypatch.setitem(cli.VERBS, "methods", cli.VERBS["methods"]._replace(run=table))
    code, out, _ = limbeck("methods")
    assert code == 0
    assert not {"\x1b", "\x07", "\u202e"} & {*out}
    assert "\\x1b]0;x" in out


def test_quiet_leaves_the_result_alone_and_verbose_adds_detail(limbeck: Run) -> None:
    usual, quiet = limbeck("methods"), limbeck("methods", "-q")
    assert quiet == (0, usual[1], "")
    assert usual[2]
    assert limbeck("methods", "-q", "-v")[0] == 2


def test_the_reader_of_a_pipe_may_leave() -> None:
    script = f"{sys.executable} -m limbeck.cli --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(closed: str, tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m limbeck.cli runs {tmp_path} --json {closed}"
    assert subprocess.run(["bash", "-c", command], capture_output=True).returncode == 0


def test_public_names_are_there_before_they_are_imported() -> None:
    code = "import limbeck, sys; assert set(limbeck.__all__) <= set(dir(limbeck)); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    for name in limbeck.__all__:
        assert getattr(limbeck, name).__name__ == name
    assert set(limbeck._HOMES) == set(limbeck.__all__)
    (for_types,) = (node for node in ast.parse(Path(limbeck.__file__).read_text()).body if isinstance(node, ast.If))
    imported = {name.name for node in for_types.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert imported == set(limbeck.__all__)
    assert {name for name in dir(limbeck) if not name.startswith("_")} == set(limbeck.__all__)
    packages = {module.name for module in pkgutil.iter_modules(limbeck.__path__)}
    assert not packages & set(limbeck.__all__), "importing the package would hide the public name"
    with pytest.raises(AttributeError, match="pretrian"):
        limbeck.pretrian  # noqa: B018 - the access is what is tested
