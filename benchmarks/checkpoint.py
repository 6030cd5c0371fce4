"""What a checkpoint costs: its size, the time to write and to read it, compared with a training step.

    OMP_NUM_THREADS=1 python benchmarks/checkpoint.py FOLDER     # on the disk of FOLDER

Default heads, queue (65,536 rows) and optimizer, batches of 256 at 32 px. Written as the training loop does: under
another name, to the disk (fsync), and renamed. Read with its checksums verified. Medians of three.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from limbeck.data.store.store import Store
from limbeck.methods import MethodConfig, method_config
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.runs.defaults import default_optim
from limbeck.train.checkpoint import load_checkpoint, save_checkpoint
from limbeck.train.config import TrainConfig
from limbeck.train.step import StepRunner

NETWORKS = {
    "ResNet-18": BackboneConfig(name="resnet18", image_size=32),
    "ViT-Tiny, patch 4": BackboneConfig(image_size=32, args={"patch_size": 4}),
}
METHODS = ("simclr", "mocov2", "sdssl")
ROUNDS = 3


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(network: str, cfg: BackboneConfig, config: MethodConfig, folder: Path) -> None:
    """Print a line of the table."""
    store = Store.from_arrays(np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3), np.uint8))
    train, path = TrainConfig(), folder / "checkpoint.ckpt"
    method = config.build(build_backbone(cfg))
    runner = StepRunner(method, store, config.make_views(32), train, default_optim(cfg.name))
    with closing(runner.loader.batches(0, 2)) as batches:
        runner.train_step(batches, 0)
        step = seconds(lambda: runner.train_step(batches, 1))
    save = [seconds(lambda: save_checkpoint(path, 2, method, runner.optimizer, {})) for _ in range(ROUNDS)]
    load = [seconds(lambda: load_checkpoint(path, method, runner.optimizer, {})) for _ in range(ROUNDS)]
    weights = sum(p.numel() for p in method.parameters() if p.requires_grad) / 1e6
    print(
        f"| {network} | {config.name} | {weights:.1f} M | {path.stat().st_size / 2**20:.0f} MiB | "
        f"{median(save):.2f} s ({min(save):.2f} to {max(save):.2f}) | {median(load):.2f} s | {step:.1f} s | "
        f"{median(save) / step:.2f} | {100 * median(save) / (60 * train.checkpoint_every_minutes):.2f} % |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| network | method | trained | size | write | read | a step | write, in steps | of 10 minutes |")
    print("|---" * 9 + "|")
    for name in METHODS:
        for network, cfg in NETWORKS.items():
            with TemporaryDirectory(dir=args.folder) as folder:
                measure(network, cfg, method_config(name)(), Path(folder))


if __name__ == "__main__":
    main()
