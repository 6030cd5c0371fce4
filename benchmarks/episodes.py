"""New classes from few images: the relation module and what is left of it without its parts, on frozen features.

    limbeck embed cifar10/train.parquet --with lite0 --out train.npy
    python -m benchmarks.episodes train.npy --seeds 5

A seed divides the classes, draws the episodes and the initial weights. Prints the mean and the standard deviation over
the seeds of the mean accuracy over the episodes, in percent.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch

from limbeck.data.store.store import Store
from limbeck.downstream.fewshot.classes import Classes
from limbeck.downstream.fewshot.config import EpisodesConfig, RelationConfig
from limbeck.downstream.fewshot.networks import FrozenNetwork
from limbeck.downstream.fewshot.source import measure


def scores(store: Store, features: torch.Tensor, cfg: EpisodesConfig, relation: RelationConfig) -> dict[str, float]:
    """Return the accuracy in percent of everything that is measured, but for pixels, by name and kind."""
    classes = Classes.split(store, cfg)
    network = FrozenNetwork(features, classes.rows(classes.base))
    found = measure(store, classes, lambda: network, cfg, relation, "").scores
    return {f"{row.name}, {row.kind}": 100 * row.accuracy for row in found if "pixels" not in row.name}


def main() -> None:
    """Measure every shot and context, and print a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="features, of `limbeck embed`")
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--contexts", nargs="+", choices=["support", "all"], default=["support", "all"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=EpisodesConfig.steps)
    parser.add_argument("--episodes", type=int, default=EpisodesConfig.episodes)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with Path(args.file).with_suffix(".csv").open(newline="", encoding="utf-8") as opened:
        labels = np.unique([row["label"] for row in csv.DictReader(opened)], return_inverse=True)[1]
    features = torch.from_numpy(np.load(args.file, allow_pickle=False))
    store = Store.from_arrays(np.zeros((len(labels), 4, 4, 3), np.uint8), labels)  # features take their place
    for shot in args.shots:
        for context in args.contexts:
            found: dict[str, list[float]] = {}
            before = time.process_time()
            for seed in range(args.seeds):
                cfg = EpisodesConfig(shot=shot, seed=seed, steps=args.steps, episodes=args.episodes)
                for name, accuracy in scores(store, features, cfg, RelationConfig(context=context)).items():
                    found.setdefault(name, []).append(accuracy)
            seconds = (time.process_time() - before) / args.seeds
            for name, values in found.items():
                cells = f"{np.mean(values):.1f} ± {np.std(values):.1f}"
                print(f"| {shot} | {context} | {name} | {cells} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
