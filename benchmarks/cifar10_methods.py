"""Every method with the same network and the same computing time: CIFAR-10, ResNet-18 of a quarter of its width.

    limbeck store cifar10/train.parquet runs/c10/train
    limbeck store cifar10/test.parquet runs/c10/test
    python benchmarks/cifar10_methods.py runs/c10/train runs/c10/test --minutes 20 --methods simclr wmse

A method gets `--minutes` of processor time of one thread: a few steps are timed first, and the run is made as long as
fits, so that every schedule ends with the budget. All have AdamW, batches of 256, two-layer heads of width 512 and 128,
queues of 4,096 and, where they have a teacher, momentum 0.99; views are the method's own, or MoCo v2's where it wants
two strong ones. Runs that are complete are not repeated. Prints the steps and the processor time that were taken, and
of the last layer 20-NN, 5-NN (Euclidean), linear and effective rank.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from limbeck.core.run_folder import RESULT
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.evaluator import evaluate
from limbeck.evaluation.results import EvaluationResult
from limbeck.methods import DistillConfig, HostConfig, MethodConfig, method_config, method_names
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import load, load_preprocessing
from limbeck.runs.api import pretrain
from limbeck.train.config import OptimConfig, TrainConfig

QUARTER = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
SIZES = {
    "hidden": 512,
    "dim": 128,
    "queue_size": 4096,
    "ema_momentum": 0.99,
    "projector_layers": 2,
    "num_prototypes": 300,
}
BATCH = 256


def small(config: MethodConfig) -> MethodConfig:
    """Return the same method with heads, queue and momentum for a small network and a short run."""
    known = {field.name for field in dataclasses.fields(config)}
    changes: dict[str, Any] = {name: value for name, value in SIZES.items() if name in known}
    if config.views in ("byol", "simclr"):
        changes["views"] = "mocov2"
    return dataclasses.replace(config, **changes)


def arms() -> dict[str, MethodConfig]:
    """Every method without a frozen teacher; SDSSL over SimCLR; W-MSE with two views and with four, 64 wide."""
    configs = {name: method_config(name) for name in method_names()}
    alone = {name: config for name, config in configs.items() if not issubclass(config, DistillConfig)}
    found = {name: small(config()) for name, config in alone.items() if name != "sdssl"}
    simclr = found["simclr"]
    assert isinstance(simclr, HostConfig)
    found["sdssl-simclr"] = method_config("sdssl")(host=simclr, hidden=512)  # type: ignore[call-arg]
    if "wmse" in found:
        wmse = dataclasses.replace(found["wmse"], dim=64)  # type: ignore[call-arg]
        found |= {"wmse": wmse, "wmse-4": dataclasses.replace(wmse, num_views=4)}  # type: ignore[call-arg]
    return found


def train(method: MethodConfig, store: str, run: Path, epochs: float, seed: int) -> float:
    """Pretrains and returns the processor seconds that it took, start included."""
    start = time.process_time()
    pretrain(
        store,
        run,
        method=method,
        backbone=BackboneConfig(name="resnet18", image_size=32, args=QUARTER),
        optim=OptimConfig(lr=2e-3, weight_decay=0.01),
        training=TrainConfig(epochs=epochs, batch_size=BATCH, seed=seed, eval_every_epochs=0),
    )
    return time.process_time() - start


def seconds_per_step(method: MethodConfig, store: str, epoch: int) -> float:
    """Processor seconds of a step: a run of 24 steps less one of 8."""
    with tempfile.TemporaryDirectory() as folder:
        short, long = (train(method, store, Path(folder) / str(n), n / epoch, 0) for n in (8, 24))
    return (long - short) / 16


def result_of(name: str, method: MethodConfig, args: argparse.Namespace) -> EvaluationResult:
    """Return the evaluation of one run, which is trained first if it does not exist."""
    run = Path(args.out) / f"{name}-{args.seed}"
    if not (run / RESULT).exists():
        epoch = len(Store.open(args.train)) // BATCH
        steps = round(60 * args.minutes / seconds_per_step(method, args.train, epoch))
        spent = train(method, args.train, run, steps / epoch, args.seed)
        print(f"{name}, seed {args.seed}: {steps} steps in {spent:.0f} s of processor time", flush=True)
        cfg = EvaluateConfig(latency=False, linear="sgd", linear_epochs=20, progress=False)
        how = load_preprocessing(run)
        result = evaluate(load(run), Store.open(args.train), Store.open(args.test), cfg, preprocessing=how)
        result.save(run / RESULT)
    return EvaluationResult.load(run / RESULT)


def main() -> None:
    """Trains and judges what was asked for, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="store to train on, and bank of the probes")
    parser.add_argument("test", help="store to test on")
    parser.add_argument("--methods", nargs="+", default=list(arms()), choices=list(arms()), metavar="METHOD")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--out", default="runs/methods")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.methods:
        values = result_of(name, arms()[name], args).layers[-1].values
        scores = " | ".join(f"{100 * (values[column] or 0):.1f}" for column in ("knn", "knn5", "linear"))
        print(f"| {name} | {scores} | {values['effective_rank']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
