"""What a reading of health costs, as a share of the steps between two of them, in one run.

    python benchmarks/health.py                     # a ResNet-18 of a quarter of its width and a small ViT at 32 px

Default settings: SDSSL over BYOL, batches of 256, a reading every 200 steps. Steps and readings alternate, so that a
busy machine disturbs both; medians of each.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from statistics import median

import numpy as np
import torch

from limbeck.data.store.store import Store
from limbeck.methods import method_config
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.runs.defaults import default_optim
from limbeck.train.config import TrainConfig
from limbeck.train.health.read import HealthReader
from limbeck.train.step import StepRunner

QUARTER = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
SMALL_VIT = {"patch_size": 4, "embed_dim": 64, "depth": 6, "num_heads": 2}
NETWORKS = {
    "ResNet-18, a quarter of its width": BackboneConfig(name="resnet18", image_size=32, args=QUARTER),
    "ViT 64 wide, 6 deep, patch 4": BackboneConfig(image_size=32, args=SMALL_VIT),
}


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(name: str, cfg: BackboneConfig, rounds: int) -> None:
    """Print a line of the table."""
    train = TrainConfig()
    store = Store.from_arrays(np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3), np.uint8))
    config = method_config("sdssl")()
    method = config.build(build_backbone(cfg))
    runner = StepRunner(method, store, config.make_views(32), train, default_optim(cfg.name))
    reader = HealthReader(method, runner.loader, runner.fabric)
    taken, read = [], []
    with closing(runner.loader.batches(0, rounds + 1)) as batches:
        runner.train_step(batches, 0)
        reader.read()
        for step in range(1, rounds + 1):
            taken.append(seconds(lambda step=step: runner.train_step(batches, step)))  # type: ignore[misc]
            read.append(seconds(reader.read))
    shares = [100 * reading / (train.health_every_steps * step) for reading, step in zip(read, taken, strict=True)]
    print(
        f"| {name} | {1000 * median(taken):.0f} ms | {1000 * median(read):.0f} ms | "
        f"{median(shares):.2f} % ({min(shares):.2f} to {max(shares):.2f}) |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| network | step | reading | share of 200 steps |\n|---|---|---|---|")
    for name, cfg in NETWORKS.items():
        measure(name, cfg, args.rounds)


if __name__ == "__main__":
    main()
