"""Limbeck beside lightly, lightly-train, torchvision, kornia and scikit-learn on one machine.

    python -m benchmarks.side_by_side install ENV            # an environment with all of them, from the registry
    ENV/bin/python -m benchmarks.side_by_side measure --train runs/c10/train --test runs/c10/test
    python -m benchmarks.side_by_side table                  # table and picture of BENCHMARKS.md, from the results

One thread, processor time, in rounds in which every library runs once; a ratio is the median of the ratios of the
rounds. Each measurement is in the file of results as soon as it is made, and replaces an older one of its name.
"""

import argparse
import importlib.metadata as metadata
import platform
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from benchmarks.page import write_between
from benchmarks.side_by_side import table
from benchmarks.side_by_side.record import Measurements, write

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results" / "side_by_side.json"
PEERS = ("lightly==1.6.*", "lightly-train==0.18.*", "kornia", "scikit-learn")
NAMES = ("limbeck", "lightly", "lightly-train", "torchvision", "kornia", "scikit-learn", "torch")


def install(folder: Path) -> None:
    """Make an environment with Limbeck and its peers."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", str(REPOSITORY), *PEERS], check=True)
    print(f"{python} -m benchmarks.side_by_side measure --train STORE --test STORE")


def measure(args: argparse.Namespace) -> None:
    """Make the measurements, each with its result written at once."""
    import torch

    from benchmarks.side_by_side import lightly_train, steps, views

    torch.set_num_threads(1)
    parts: dict[str, Callable[[], Measurements]] = {
        "stored": lambda: views.stored(args.rounds),
        "jpeg": lambda: views.jpeg(args.rounds),
        "steps": lambda: steps.steps(args.rounds),
        "distillation": lambda: lightly_train.distillation_steps(args.rounds),
        "start-up": lambda: steps.start_up(args.rounds),
        "installed": steps.installed,
        "evaluation": lambda: steps.evaluation(args.train, args.test, args.rounds),
    }
    versions = {name: metadata.version(name) for name in NAMES} | {"python": platform.python_version()}
    for name in args.only or parts:
        if name == "evaluation" and not (args.train and args.test):
            print("the evaluation needs --train and --test", file=sys.stderr)
            continue
        for measured in parts[name]():
            write(args.results, measured, versions)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("install").add_argument("folder", type=Path)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("--train", type=Path, help="a store of CIFAR-10's training images")
    measuring.add_argument("--test", type=Path)
    measuring.add_argument("--rounds", type=int, default=7)
    measuring.add_argument("--only", nargs="+")
    measuring.add_argument("--results", type=Path, default=RESULTS)
    writing = verbs.add_parser("table")
    writing.add_argument("--results", type=Path, default=RESULTS)
    writing.add_argument("--page", type=Path, default=REPOSITORY / "BENCHMARKS.md")
    writing.add_argument("--picture", type=Path, default=REPOSITORY / "docs" / "side_by_side.svg")
    args = parser.parse_args()
    if args.verb == "install":
        return install(args.folder)
    if args.verb == "measure":
        return measure(args)
    results = table.load(args.results)
    write_between(args.page, "side by side", table.section(results))
    return table.draw(results, args.picture)


if __name__ == "__main__":
    main()
