"""SimCLR within a time budget: CIFAR-10, ResNet-18 of a quarter of its width, 2 CPU cores, then 20-NN on the test set.

    limbeck store cifar10/train.parquet runs/c10/train
    limbeck store cifar10/test.parquet runs/c10/test
    python benchmarks/cifar10_simclr.py runs/c10/train runs/c10/test --epochs 6

Choose the epochs that fit ten minutes on the machine; the script prints the wall time of the training itself, the
accuracy at the last stage beside the untrained network, and that of raw pixels.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.methods.config import simclr
from limbeck.metrics.knn import knn_accuracy
from limbeck.models.config import BackboneConfig
from limbeck.runs.api import evaluate_run, pretrain
from limbeck.train.config import OptimConfig, TrainConfig

QUARTER = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}


def raw_pixels(train: Store, test: Store) -> float:
    """20-NN accuracy of the pixels themselves, centred and scaled to [0, 1]."""
    bank, queries = (torch.from_numpy(s.images[:].reshape(len(s), -1) / np.float32(255)) for s in (train, test))
    center = bank.mean(dim=0)
    labels, truth = (torch.from_numpy(s.labels) for s in (train, test))
    return knn_accuracy(bank - center, labels, queries - center, truth)


def main() -> None:
    """Trains, evaluates, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--out", default="runs/simclr")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=0.2)
    args = parser.parse_args()

    method = simclr.SimCLRConfig(
        views="mocov2", hidden=512, projector_layers=2, dim=128, temperature=args.temperature, trailing_norm=False
    )
    start = time.perf_counter()
    run = pretrain(
        args.train,
        Path(args.out) / f"seed{args.seed}-epochs{args.epochs}",
        method=method,
        backbone=BackboneConfig(name="resnet18", image_size=32, args=QUARTER),
        optim=OptimConfig(lr=args.lr, weight_decay=0.01),
        training=TrainConfig(epochs=args.epochs, batch_size=args.batch_size, seed=args.seed, eval_every_epochs=0),
    )
    seconds = time.perf_counter() - start
    result = evaluate_run(run, args.train, args.test, EvaluateConfig(latency=False, linear="none"))
    last = result.layers[-1].values
    knn, untrained = last["knn"], last["untrained_knn"]
    assert knn is not None
    assert untrained is not None
    pixels = raw_pixels(Store.open(args.train), Store.open(args.test))
    print(f"{seconds:.0f} s of training on {torch.get_num_threads()} threads, {args.epochs} epochs, seed {args.seed}")
    print(f"20-NN: {100 * knn:.1f} %; untrained {100 * untrained:.1f} %; raw pixels {100 * pixels:.1f} %")


if __name__ == "__main__":
    main()
