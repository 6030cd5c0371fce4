"""A copy of the package to which a test adds a file, and its command line in a process of its own."""

import re
import shutil
from pathlib import Path

from tests.helpers.forks import run_module

ROOT = Path(__file__).parents[2]


def copy_package(folder: Path) -> Path:
    """Copy `limbeck` into `folder`, and return the folder."""
    shutil.copytree(ROOT / "limbeck", folder / "limbeck")  # with its bytecode, which copies stay valid for
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
