"""SDSSL against its host, layer by layer, at the same budget: CIFAR-10, a small ViT or ResNet, several seeds.

    limbeck store cifar10/train.parquet runs/c10/train
    limbeck store cifar10/test.parquet runs/c10/test
    python benchmarks/cifar10_layers.py runs/c10/train runs/c10/test --out runs/layers --seeds 0 1 2

Three arms see the same images, views and number of steps: the host (MoCo v3), the control "host + predictor-only loss"
(SDSSL without layers) and SDSSL. Runs that are complete are not repeated, so the script can be stopped, or started
several times with other seeds. Prints 20-NN and linear accuracy per layer, mean and deviation over the seeds, and at
how many layers SDSSL wins.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

import torch

from limbeck.core.run_folder import RESULT
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.results import EvaluationResult
from limbeck.methods import MethodConfig
from limbeck.methods.config import mocov3, sdssl
from limbeck.models.config import BackboneConfig
from limbeck.runs.api import evaluate_run, pretrain
from limbeck.train.config import OptimConfig, TrainConfig

HOST = mocov3.MoCoV3Config(hidden=256, dim=128, ema_momentum=0.99)
ARMS: dict[str, MethodConfig] = {
    "host": HOST,
    "control": sdssl.SDSSLConfig(host=HOST, layers=()),
    "sdssl": sdssl.SDSSLConfig(host=HOST, hidden=256),
}
NARROW = {"channels": [32, 64, 96, 160], "layers": [1, 1, 1, 1], "stem_type": "deep", "stem_width": 16}
NETWORKS = {
    "vit": BackboneConfig(image_size=32, args={"patch_size": 8, "embed_dim": 64, "depth": 6, "num_heads": 2}),
    "resnet": BackboneConfig(name="resnet18", image_size=32, args=NARROW, stem_pool=True),
}


def result_of(arm: str, seed: int, args: argparse.Namespace) -> EvaluationResult:
    """Return the evaluation of one run, which is trained first if it does not exist."""
    run = Path(args.out) / f"{arm}-{seed}"
    if not (run / RESULT).exists():
        precision: Literal["auto", "fp32"] = "fp32" if args.network == "vit" else "auto"
        train = TrainConfig(epochs=args.epochs, seed=seed, eval_every_epochs=0, warmup_epochs=1, precision=precision)
        optim = OptimConfig(lr=1e-3, weight_decay=0.05)
        pretrain(args.train, run, method=ARMS[arm], backbone=NETWORKS[args.network], optim=optim, training=train)
        probes = EvaluateConfig(latency=False, linear="sgd", linear_epochs=20, references=False)
        evaluate_run(run, args.train, args.test, probes)
    return EvaluationResult.load(run / RESULT)


def spread(values: list[float]) -> str:
    """Mean and deviation, in percent."""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}"


def value(result: EvaluationResult, index: int, metric: str) -> float:
    """Return a metric of one layer, which was measured."""
    found = result.layers[index].values[metric]
    assert found is not None
    return found


def print_table(results: dict[str, list[EvaluationResult]], metric: str) -> None:
    """Print a line per layer: the untrained network, then every arm."""
    print(f"\n{metric}, %\n\n| layer | untrained | {' | '.join(results)} |\n|{'---|' * (len(results) + 2)}")
    first = next(iter(results.values()))
    for index, layer in enumerate(first[0].layers):
        untrained = spread([value(r, index, f"untrained_{metric}") for r in first])
        cells = [spread([value(r, index, metric) for r in found]) for found in results.values()]
        print(f"| {layer.depth} | {untrained} | {' | '.join(cells)} |")
    wins = [
        sum(value(sdssl, index, metric) > value(host, index, metric) for index in range(len(sdssl.layers)))
        for sdssl, host in zip(results["sdssl"], results["host"], strict=True)
    ]
    print(f"\nlayers at which SDSSL beats its host, per seed: {wins} of {len(first[0].layers)}")


def main() -> None:
    """Run every arm with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="store to train on, and bank of the probes")
    parser.add_argument("test", help="store to test on")
    parser.add_argument("--out", default="runs/layers")
    parser.add_argument("--network", choices=NETWORKS, default="vit")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = {(seed, arm): result_of(arm, seed, args) for seed in args.seeds for arm in args.arms}
    results = {arm: [found[seed, arm] for seed in args.seeds] for arm in args.arms}
    size = len(Store.open(args.train))
    print(f"{size} images, {args.epochs} epochs, seeds {args.seeds}, torch {torch.__version__}")
    for metric in ("knn", "linear"):
        print_table(results, metric)


if __name__ == "__main__":
    main()
