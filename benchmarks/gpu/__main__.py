"""Run checks and measurements on a GPU: checks first, then measurements, the most important ones first.

    python -m benchmarks.gpu --train cifar10/train.parquet --test cifar10/test.parquet --minutes 25

Needs torch, timm, lightning-fabric, pyarrow, scikit-learn and numpy. Every finding is a line of JSON in `--out`,
written at once; an item that fails is a line as well, and the others continue.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.gpu import accuracy, checks, speed
from benchmarks.gpu.record import Item, Machine, play

ITEMS = [
    Item("versions", checks.versions, 0.2),
    Item("views-equal", checks.views_equal, 0.3),
    Item("methods-equal", checks.methods_equal, 1),
    Item("resident", checks.resident_is_streamed, 0.1),
    Item("resume", checks.runs_resume, 0.5),
    Item("nccl", checks.one_process_group, 0.3),
    Item("compile", checks.compiled_is_eager, 1.5),
    Item("efficiency", speed.efficiency, 3),
    Item("views", speed.views, 0.5),
    Item("profile", speed.profile, 0.5),
    Item("minute", accuracy.minute, 2),
    Item("five-minutes", accuracy.five_minutes, 6),
    Item("distillation", accuracy.distillation, 3),
    Item("layers", accuracy.layers, 4),
    Item("family", accuracy.family, 5),
    Item("graph", speed.graph, 3),
    Item("fifteen-minutes", accuracy.fifteen_minutes, 16),
]


def main() -> None:
    """Parse the command line and run the items."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="CIFAR-10's training images, parquet or store")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--only", nargs="+", choices=[item.name for item in ITEMS], default=[i.name for i in ITEMS])
    parser.add_argument("--toy", action="store_true", help="sizes for a CPU, to see that everything runs")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    baseline = args.baseline or Path(tempfile.mkdtemp())
    baseline.mkdir(parents=True, exist_ok=True)
    machine = Machine(device, args.train, args.test, baseline, args.toy)
    items = [item for item in ITEMS if item.name in args.only]
    raise SystemExit(min(1, play(items, machine, args.out, args.minutes)))


if __name__ == "__main__":
    main()
