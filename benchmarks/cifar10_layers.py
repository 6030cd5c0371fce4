"""SDSSL against its host, layer by layer, at the same budget: CIFAR-10, a small ViT or ResNet, several seeds.

    limbeck store cifar10/train.parquet runs/c10/train
    limbeck store cifar10/test.parquet runs/c10/test
    python benchmarks/cifar10_layers.py runs/c10/train runs/c10/test --out runs/layers --seeds 0 1 2

The arms see the same images, views and number of steps: the host (MoCo v3), the control "host + predictor-only loss"
(SDSSL without layers), SDSSL with its rising weight, with a constant one, at every other layer, and with a norm of its
own at every depth; only `longer` has as much more of the host's steps as a step of SDSSL takes more time (`--longer`).
Runs that are complete are not repeated, so the script can be stopped, or started several times with other seeds. Prints
20-NN and linear accuracy per layer, mean and deviation over the seeds, the paired differences to the host, and the
seconds of processor time of a training.
"""

import argparse
import json
import time
from dataclasses import replace
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
EVERY_LAYER = sdssl.SDSSLConfig(host=HOST, hidden=256)
ARMS: dict[str, MethodConfig] = {
    "host": HOST,
    "longer": HOST,
    "control": replace(EVERY_LAYER, layers=()),
    "sdssl": EVERY_LAYER,
    "constant": replace(EVERY_LAYER, alpha_schedule="constant"),
    "every-other": EVERY_LAYER,
    "norms": replace(EVERY_LAYER, alpha_schedule="constant"),
}
EVERY_OTHER = {"vit": (2, 4), "resnet": (2,)}
SECONDS = "seconds.json"
NARROW = {"channels": [32, 64, 96, 160], "layers": [1, 1, 1, 1], "stem_type": "deep", "stem_width": 16}
NETWORKS = {
    "vit": BackboneConfig(image_size=32, args={"patch_size": 8, "embed_dim": 64, "depth": 6, "num_heads": 2}),
    "resnet": BackboneConfig(name="resnet18", image_size=32, args=NARROW, stem_pool=True),
}


def method_of(arm: str, network: str) -> MethodConfig:
    """Return the method of an arm; which layers there are depends on the network."""
    return replace(EVERY_LAYER, layers=EVERY_OTHER[network]) if arm == "every-other" else ARMS[arm]


def result_of(arm: str, seed: int, args: argparse.Namespace) -> EvaluationResult:
    """Return the evaluation of one run, which is trained first if it does not exist."""
    run = Path(args.out) / f"{arm}-{seed}"
    if not (run / RESULT).exists():
        precision: Literal["auto", "fp32"] = "fp32" if args.network == "vit" else "auto"
        epochs = args.epochs * (args.longer if arm == "longer" else 1)
        train = TrainConfig(epochs=epochs, seed=seed, eval_every_epochs=0, warmup_epochs=1, precision=precision)
        backbone = replace(NETWORKS[args.network], per_layer_norm=arm == "norms")
        start, optim = time.process_time(), OptimConfig(lr=args.lr, weight_decay=0.05)
        pretrain(args.train, run, method=method_of(arm, args.network), backbone=backbone, optim=optim, training=train)
        (run / SECONDS).write_text(json.dumps(time.process_time() - start), encoding="utf-8")
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


def differences(results: dict[str, list[EvaluationResult]], index: int, metric: str) -> dict[str, list[float]]:
    """Return, per arm, what it has more than the host at a layer, for every seed."""
    return {
        arm: [value(a, index, metric) - value(b, index, metric) for a, b in zip(found, results["host"], strict=True)]
        for arm, found in results.items()
        if arm != "host"
    }


def print_table(results: dict[str, list[EvaluationResult]], metric: str) -> None:
    """Print a line per layer: the untrained network, the host, and how much more every other arm has."""
    others = [arm for arm in results if arm != "host"]
    print(f"\n{metric}, %\n\n| layer | untrained | host | {' | '.join(others)} |\n|{'---|' * (len(others) + 3)}")
    for index, layer in enumerate(results["host"][0].layers):
        untrained = spread([value(r, index, f"untrained_{metric}") for r in results["host"]])
        host = spread([value(r, index, metric) for r in results["host"]])
        cells = [f"{'+' if mean(d) > 0 else ''}{spread(d)}" for d in differences(results, index, metric).values()]
        print(f"| {layer.depth} | {untrained} | {host} | {' | '.join(cells)} |")


def print_seconds(seeds: list[int], arms: list[str], out: Path) -> None:
    """Print the processor time of a training, per arm."""
    for arm in arms:
        seconds = [json.loads((out / f"{arm}-{seed}" / SECONDS).read_text(encoding="utf-8")) for seed in seeds]
        print(f"{arm}: {mean(seconds):.0f} s of processor time a training")


def main() -> None:
    """Run every arm with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="store to train on, and bank of the probes")
    parser.add_argument("test", help="store to test on")
    parser.add_argument("--out", default="runs/layers")
    parser.add_argument("--network", choices=NETWORKS, default="vit")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--longer", type=float, default=1.5, help="epochs of `longer`, as a multiple")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.arms = ["host", *(arm for arm in args.arms if arm != "host")]
    found = {(seed, arm): result_of(arm, seed, args) for seed in args.seeds for arm in args.arms}
    results = {arm: [found[seed, arm] for seed in args.seeds] for arm in args.arms}
    size = len(Store.open(args.train))
    print(f"{size} images, {args.epochs} epochs, seeds {args.seeds}, torch {torch.__version__}")
    for metric in ("knn", "linear"):
        print_table(results, metric)
    print_seconds(args.seeds, args.arms, Path(args.out))


if __name__ == "__main__":
    main()
