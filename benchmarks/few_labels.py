"""Which images to label, and which head to fit to them: every strategy and head, over several seeds.

    limbeck embed cifar10/train.parquet --with lite0 --out train.npy
    limbeck embed cifar10/test.parquet --with lite0 --out test.npy
    python -m benchmarks.few_labels train.npy test.npy --budgets 10 100 --seeds 20

A seed draws the pool (10,000 images), the clusters and the random choice. Prints, for every budget and strategy, the
accuracy on the test images of each head (mean and standard deviation over the seeds), the number of classes that were
chosen from, and the processor seconds of a choice. With `--rounds` the first half of a budget is chosen by `typical`,
and labeled; the strategies choose the second half; those that need labels take part in this only. `digits` in place of
both files takes the pixels of 4,000 and 1,000 handwritten digits.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.classification.heads import HeadName, fit_head
from limbeck.classification.space import Space
from limbeck.data.samples import digits
from limbeck.downstream.selection.config import NEEDS_LABELS, TRAINED, SelectConfig, Strategy
from limbeck.downstream.selection.select import select_rows

Labeled = tuple[NDArray[np.float32], NDArray[np.int64]]


def read(file: str) -> Labeled:
    """Return features [N D] and labels [N] of a file of `limbeck embed`."""
    with Path(file).with_suffix(".csv").open(newline="", encoding="utf-8") as opened:
        names = [row["label"] for row in csv.DictReader(opened)]
    return np.load(file, mmap_mode="r"), np.unique(names, return_inverse=True)[1]


def read_digits() -> tuple[Labeled, Labeled]:
    """Return the pixels of digits, shuffled."""
    images, labels = digits()
    order = np.random.default_rng(0).permutation(len(images))
    pixels = (images[order].reshape(len(images), -1) / 255).astype(np.float32)
    return (pixels[:4000], labels[order][:4000]), (pixels[4000:], labels[order][4000:])


def accuracies(train: Labeled, test: Labeled, rows: NDArray[np.int64], space: Space) -> list[float]:
    """Return the accuracy of every head that is fitted to the chosen rows, in percent."""
    points, queries = space(torch.from_numpy(train[0][rows])), space(torch.from_numpy(np.array(test[0])))
    names, labels = torch.from_numpy(train[1][rows]).unique(return_inverse=True)
    if len(names) < 2:
        return [100 * float((test[1] == int(names[0])).mean())] * len(get_args(HeadName))
    heads = (fit_head(name, points, labels, len(names)) for name in get_args(HeadName))
    return [100 * float((names[head(queries).argmax(dim=1)].numpy() == test[1]).mean()) for head in heads]


def choose(
    train: Labeled, budget: int, strategy: Strategy, seed: int, start: NDArray[np.int64]
) -> tuple[NDArray[np.int64], float]:
    """Return the rows that are labeled in the end, and the processor seconds of the choice."""
    labels = np.full(len(train[1]), -1)
    labels[start] = train[1][start]
    before = time.process_time()
    found = select_rows(train[0], SelectConfig(budget=budget - len(start), strategy=strategy, seed=seed), labels)
    return np.concatenate([start, found.rows]), time.process_time() - before


def main() -> None:
    """Choose, fit, and print a line for every budget and strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="features of train and test images, or 'digits'")
    parser.add_argument("--budgets", nargs="+", type=int, default=[10, 100])
    parser.add_argument("--strategies", nargs="+", default=[s for s in get_args(Strategy) if s != TRAINED])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rounds", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, test = read_digits() if args.files == ["digits"] else (read(args.files[0]), read(args.files[1]))
    space = Space.fit(train[0], 0)
    print("| budget | strategy |", " | ".join(get_args(HeadName)), "| classes | s |")
    for budget in args.budgets:
        for strategy in args.strategies:
            if strategy in NEEDS_LABELS and not args.rounds:
                continue
            found, classes, seconds = [], [], []
            for seed in range(args.seeds):
                none = np.array([], np.int64)
                start = choose(train, budget // 2, "typical", seed, none)[0] if args.rounds else none
                rows, spent = choose(train, budget, strategy, seed, start)
                found.append(accuracies(train, test, rows, space))
                classes.append(len(np.unique(train[1][rows])))
                seconds.append(spent)
            cells = [f"{m:.1f} ± {d:.1f}" for m, d in zip(np.mean(found, 0), np.std(found, 0), strict=True)]
            print(
                f"| {budget} | {strategy} |",
                " | ".join(cells),
                f"| {np.mean(classes):.1f} | {np.mean(seconds):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
