"""Measure which lines of the package the tests run: `python -m pytest -p tests.helpers.line_coverage`.

SlipCover writes probes into the bytecode and removes them again once they have fired, so that a long test pays little;
the tracer of coverage.py, which every function call of PyTorch pays for, nearly doubles the CPU time of the tests on
Python 3.11. Lines that run only in other processes than pytest's and its workers' count as missing.
"""

import json
import sys
from collections.abc import Sequence
from functools import reduce
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
from slipcover import Slipcover
from slipcover.slipcover import add_summaries, merge_coverage

PACKAGE = Path(__file__).parents[2] / "limbeck"
LOW = 80.0
"""Percent of lines below which a file is listed."""


class Finder(MetaPathFinder):
    """Finds the modules of the package as the other finders do, and instruments their code."""

    def __init__(self, measured: Slipcover) -> None:
        self.measured = measured

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE.name:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        loader: Any = spec and spec.loader
        if loader and Path(loader.path).is_relative_to(PACKAGE):
            get_code = loader.get_code

            def instrumented(name: str) -> CodeType:
                return self.measured.instrument(get_code(name))

            loader.get_code = instrumented
        return spec


MEASURED = Slipcover(source=[str(PACKAGE)])
FINDER = Finder(MEASURED)
WORKERS: list[dict[str, Any]] = []


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    sys.meta_path.insert(0, FINDER)


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Put the finder before that of jaxtyping, which would load its packages without it."""
    sys.meta_path.remove(FINDER)
    sys.meta_path.insert(0, FINDER)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what a worker of pytest-xdist has run to the process that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["line_coverage"] = json.dumps(MEASURED.get_coverage())  # execnet carries plain types alone


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    found = getattr(node, "workeroutput", {}).get("line_coverage")
    WORKERS.extend([json.loads(found)] if found else [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the total, and every file of which less than `LOW` percent ran."""
    total = reduce(merge_coverage, WORKERS, MEASURED.get_coverage())
    add_summaries(total)
    terminalreporter.section(f"line coverage: {total['summary']['percent_covered']:.1f} %")
    for name, file in sorted(total["files"].items()):
        if file["summary"]["percent_covered"] < LOW:
            terminalreporter.line(f"{file['summary']['percent_covered']:5.1f} % {name}")
