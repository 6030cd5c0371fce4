"""Accuracy after equal processor time: `limbeck pretrain`, each ingredient taken away in turn, and lightly's SimCLR.

    pip install --no-deps --target PEERS lightly lightly-utils
    OMP_NUM_THREADS=1 PYTHONPATH=PEERS python -m benchmarks.ingredients measure TRAIN.parquet TEST.parquet --work FOLDER
    python -m benchmarks.ingredients table             # table and picture of BENCHMARKS.md, from the results

Each arm is the real command with one thread and nothing cached, in a process whose clock is that of the processor, so
that other work on the machine does not count; weighted 20-NN with all training images, all test images, plain and
half-whitened. An arm whose run has ended is only scored. Each result is in the file as soon as it is made, and replaces
an older one of its arm and seed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.ingredients.table import draw, section
from benchmarks.page import write_between
from benchmarks.side_by_side.record import commit, processor
from limbeck.core.run_folder import HEALTH
from limbeck.metrics.knn import knn_accuracy
from limbeck.metrics.whitening import HalfWhitening

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results" / "ingredients.json"
COMMAND = "import sys; from limbeck.cli import main; sys.argv[0] = 'limbeck'; main()"
CLOCK = "import time; time.monotonic = time.perf_counter = time.process_time; "
RESNET = '{"channels": [32, 64, 96, 160], "layers": [1, 1, 1, 1], "stem_type": "deep", "stem_width": 16}'
SMALL_RESNET = ("--backbone", "resnet18", "--backbone.small-stem", "True", "--backbone.stem-pool")
ARMS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "without patch filters": ("--backbone.patch-filters", "0"),
    "a small ResNet, no plain CNN": (*SMALL_RESNET, "--backbone.args", RESNET, "--backbone.patch-filters", "400"),
    "LARS at 0.3, no AdamW at 4e-3": ("--optim", "lars", "--optim.lr", "0.3", "--optim.weight-decay", "1e-6"),
    "heads of 4,096, not 512": ("--method.hidden", "4096", "--method.dim", "256", "--method.trailing-norm"),
    "views of BYOL, not of MoCo v2": ("--method.views", "byol"),
    "float32, not bf16": ("--precision", "fp32"),
    "with 4 local crops of 16 pixels": ("--method.num-local-crops", "4", "--method.local-crop-size", "16"),
}
"""Name -> flags of `limbeck pretrain --recipe contrast`."""
PEERS = {"lightly, ResNet-18": "resnet-18", "lightly, our plain CNN": "plain_cnn"}
"""Name -> backbone of lightly's recipe."""


def run(words: list[str], log: Path, **environment: str) -> None:
    """Run a command with its output in a file; SystemExit where it fails."""
    with log.open("a", encoding="utf-8") as out:
        done = subprocess.run(words, stdout=out, stderr=out, env=os.environ | environment, check=False)
    if done.returncode:
        raise SystemExit(f"'{' '.join(words[-6:])}' ended with {done.returncode}: see '{log}'")


def train(arm: str, args: argparse.Namespace, folder: Path) -> int | None:
    """Train an arm and write the features of both sets; return its steps."""
    log, cache = folder / "log.txt", {"XDG_CACHE_HOME": str(folder / "cache")}
    if arm in PEERS:
        words = [args.train, args.test, "--seconds", str(60 * args.minutes), "--backbone", PEERS[arm]]
        peer = [sys.executable, "-m", "benchmarks.ingredients.lightly_simclr", *words]
        run([*peer, "--out", str(folder), "--seed", str(args.seed)], log)
        return int(log.read_text(encoding="utf-8").rpartition(" steps in ")[0].split()[-1])
    timed = ["--recipe", "contrast", "--time", f"{args.minutes:g}m", "--seed", str(args.seed), *ARMS[arm]]
    words = ["pretrain", args.train, *timed, "--out", str(folder / "run")]
    if not (folder / "run" / HEALTH).exists():  # which a run writes at its end
        shutil.rmtree(folder / "run", ignore_errors=True)
        run([sys.executable, "-c", CLOCK + COMMAND, *words], log, **cache)
    for name in ("train", "test"):
        words = [getattr(args, name), "--with", str(folder / "run"), "--out", str(folder / f"{name}.npy")]
        run([sys.executable, "-c", COMMAND, "embed", *words], log, **cache)
    rows = (folder / "run" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    return int(rows[-1].split(",")[0])


def accuracies(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return the plain and the half-whitened accuracy in percent of the features of an arm."""
    bank, queries = (torch.from_numpy(np.load(folder / f"{name}.npy")).float() for name in ("train", "test"))
    labels, truth = (_labels(table) for table in (args.train, args.test))
    whiten = HalfWhitening.fit(bank)
    pairs = {"plain": (bank, queries), "half-whitened": (whiten(bank), whiten(queries))}
    found = {name: 100 * knn_accuracy(a, labels, b, truth) for name, (a, b) in pairs.items()}
    return {name: round(value, 2) for name, value in found.items()}


def _labels(table: str) -> torch.Tensor:
    return torch.from_numpy(pq.read_table(table, columns=["label"])["label"].to_numpy().astype(np.int64))


def measure(args: argparse.Namespace) -> None:
    """Train and score the arms, one after the other."""
    for arm in args.only or [*ARMS, *PEERS]:
        folder = args.work / f"{arm.replace(' ', '-').replace(',', '')}-{args.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        place = {"date": date.today().isoformat(), "commit": commit(), "processor": processor()}
        load = round(os.getloadavg()[0], 1)
        steps = train(arm, args, folder)
        found = {"minutes": args.minutes, "steps": steps, **accuracies(args, folder), "load": load, **place}
        results: dict[str, Any] = json.loads(args.results.read_text("utf-8")) if args.results.exists() else {}
        results.setdefault(arm, {})[str(args.seed)] = found
        args.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(json.dumps({arm: found}), flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("train")
    measuring.add_argument("test")
    measuring.add_argument("--work", type=Path, required=True)
    measuring.add_argument("--minutes", type=float, default=10)
    measuring.add_argument("--seed", type=int, default=0)
    measuring.add_argument("--only", nargs="+", choices=(*ARMS, *PEERS))
    measuring.add_argument("--results", type=Path, default=RESULTS)
    writing = verbs.add_parser("table")
    writing.add_argument("--results", type=Path, default=RESULTS)
    writing.add_argument("--page", type=Path, default=REPOSITORY / "BENCHMARKS.md")
    writing.add_argument("--picture", type=Path, default=REPOSITORY / "docs" / "ingredients.svg")
    args = parser.parse_args()
    if args.verb == "measure":
        return measure(args)
    results = json.loads(args.results.read_text(encoding="utf-8"))
    write_between(args.page, "ingredients", section(results))
    return draw(results, args.picture)


if __name__ == "__main__":
    main()
