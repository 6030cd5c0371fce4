"""A copy of the package to which a test adds a file, and its command line in a process of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_package(folder: Path) -> Path:
    """Copy `limbeck` into `folder`, and return the folder."""
    shutil.copytree(ROOT / "limbeck", folder / "limbeck", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def add_example(page: str, file: str, folder: Path) -> None:
    """Write the block of `docs/<page>` that is marked `file=<file>` into `folder`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```\w+ file={re.escape(file)}\n(.*?)^```$", text, re.M | re.S)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(block, encoding="utf-8")


def run_command(folder: Path, *words: str | Path) -> str:
    """Run `limbeck` with the package in `folder`, and return what it prints on stdout."""
    return run_module(folder, "limbeck.cli", *words)


def run_module(folder: Path, module: str, *words: str | Path) -> str:
    """Run `python -m module` with the package in `folder`, and return what it prints on stdout."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
