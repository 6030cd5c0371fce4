"""Processes that are forked from one that has imported PyTorch, so that each of them starts in less than a second."""

import contextlib
import importlib
import multiprocessing as mp
import os
import runpy
import sys
from pathlib import Path

PRELOAD = ["limbeck.cli", "limbeck.runs.api", "lightning_fabric", "tests.helpers.unsynced"]  # seconds of imports
FORKS = mp.get_context("forkserver")
FORKS.set_forkserver_preload(PRELOAD)


def run_module(folder: Path, module: str, *words: str | Path) -> str:
    """Run `python -m module` in `folder`, with the packages there; return what it prints on stdout.

    `limbeck` and `tests` are imported again, from `folder`.
    """
    out, err = folder / ".stdout", folder / ".stderr"
    process = FORKS.Process(target=_main, args=(folder, module, [str(word) for word in words], dict(os.environ)))
    process.start()
    process.join()
    printed = out.read_text(encoding="utf-8")
    assert process.exitcode == 0, printed + err.read_text(encoding="utf-8")
    return printed


def _main(folder: Path, module: str, words: list[str], environment: dict[str, str]) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("limbeck", "tests")]:
        del sys.modules[name]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    importlib.import_module("torch").set_num_threads(1)
    sys.argv = [module, *words]
    with (
        (folder / ".stdout").open("w", encoding="utf-8") as out,
        (folder / ".stderr").open("w", encoding="utf-8") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
