"""Fine-tuning with shares of the labels beside logistic regression on frozen features, over several seeds.

    python -m benchmarks.finetuning cifar10/train.parquet cifar10/test.parquet runs/a --images 5000 2000 --seeds 2

Takes the first images of both parquet files. A seed draws the labels of a share (shares are nested), the initial
classifier and the order of the images. Runs that are complete are not repeated. Prints mean and standard deviation over
the seeds of both accuracies in percent, with the defaults of `limbeck finetune` but for the batch size.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import limbeck
from limbeck.runs.finetune_recipe import FINETUNE_TRAINING


def first(source: str, count: int, folder: Path) -> Path:
    """Write the first rows of a parquet file, and return where."""
    path = folder / f"{Path(source).stem}-{count}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pq.read_table(source).slice(0, count), path)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Fine-tune for every share and seed, and print a line for each share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("network")
    parser.add_argument("--images", nargs=2, type=int, default=(5000, 2000))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.01, 0.1, 1.0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("runs/finetuning"))
    args = parser.parse_args(argv)
    sources = zip((args.train, args.test), args.images, strict=True)
    train, test = (first(source, count, args.out) for source, count in sources)
    print("| labels | fine-tuned, % | frozen, % | CPU seconds |")
    for share in args.shares:
        found, seconds = [], time.process_time()
        for seed in range(args.seeds):
            out = args.out / f"{share:g}-{seed}"
            training = replace(FINETUNE_TRAINING, seed=seed, batch_size=args.batch_size)
            result = limbeck.finetune(args.network, train, test, out, labels=share, training=training, subset_seed=seed)
            found.append((100 * result.accuracy, 100 * result.frozen))
        spreads = zip(np.mean(found, axis=0), np.std(found, axis=0), strict=True)
        cells = [f"{mean:.1f} ± {spread:.1f}" for mean, spread in spreads]
        spent = (time.process_time() - seconds) / args.seeds
        print(f"| {result.labels} ({share:.0%}) | {' | '.join(cells)} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
