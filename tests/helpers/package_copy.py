"""A copy of the package in a temporary folder, for tests that add a file to it and run the command line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import limbeck

DOCS = Path(__file__).parents[2] / "docs"


def copy_package(folder: Path) -> Path:
    """Copy the package `limbeck` into `folder` and return the copy."""
    package = Path(limbeck.__file__).parent
    return Path(shutil.copytree(package, folder / "limbeck", ignore=shutil.ignore_patterns("__pycache__")))


def add_example(package: Path, page: str, file: str) -> None:
    """Write the block of `docs/<page>` that is marked `file=<file>` into a copy of the package."""
    text = (DOCS / page).read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```python file={re.escape(file)}\n(.*?)^```$", text, re.M | re.S)
    (package.parent / file).write_text(block, encoding="utf-8")


def run_copy(package: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run `limbeck WORDS` with a copy of the package, in the folder of the copy; fail with its stderr."""
    environment = os.environ | {"PYTHONPATH": str(package.parent), "HOME": str(package.parent)}
    command = [sys.executable, "-m", "limbeck.cli", *map(str, words)]
    done = subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done
