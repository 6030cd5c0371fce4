"""Efficiency: time of the bare backbone's forward and backward over the time of a whole training step, in one run.

    python benchmarks/efficiency.py                     # ResNet-18 and ViT-Tiny at 32 px, batch 256, as the machine is

The step is that of `limbeck pretrain`: reading, two views, SimCLR with the release's head, optimizer, logging. The
backbone alone runs on ready tensors of the same batch (512 rows), precision and memory format. Rounds alternate between
the two, so that a noisy machine disturbs both; the parts are timed as well, to explain what is not the backbone.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, stdev

import numpy as np
import torch
from torch import Tensor

from limbeck.core.devices import choose_device, resolve_bf16
from limbeck.core.types import Batch, StepInfo
from limbeck.data.augment.views import preset
from limbeck.data.loader import Loader
from limbeck.data.sampling import view_specs
from limbeck.data.store.store import Store
from limbeck.methods.config import simclr
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.loop import train
from limbeck.train.optim import build_optimizer

NETWORKS = {
    "ResNet-18, 3x3 stem": BackboneConfig(name="resnet18", image_size=32),
    "ViT-Tiny, patch 4": BackboneConfig(name="vit_tiny_patch16_224", image_size=32, args={"patch_size": 4}),
}
SIZE, STEP = 32, StepInfo(1, 10)


class Bench:
    """One network, ready to be timed in parts and whole."""

    def __init__(self, cfg: BackboneConfig, batch: int, steps: int) -> None:
        self.cfg = TrainConfig(epochs=1, batch_size=batch, log_every_steps=1, eval_every_epochs=0)
        self.device = choose_device(self.cfg.accelerator)
        self.bf16 = resolve_bf16(self.cfg.precision, self.device)
        pixels = np.random.default_rng(0).integers(0, 256, (batch * steps, SIZE, SIZE, 3), np.uint8)
        self.store = Store.from_arrays(pixels)
        self.method = simclr.SimCLRConfig(views="simclr").build(build_backbone(cfg))
        self.method.to(self.device).to(memory_format=torch.channels_last)
        self.loader = Loader(self.store, view_specs(preset("simclr", SIZE)), batch, seed=0, device=self.device)
        self.batch: Batch = next(self.loader.batches(0, 1))

    def backbone(self) -> None:
        """Run forward and backward of the backbone alone."""
        backbone = self.method.backbone
        images = torch.cat(self.batch.views)
        self._backward(lambda: backbone(images).final.float().square().mean())

    def head(self) -> None:
        """Run forward and backward of projector and loss on ready features."""
        features = torch.randn(2 * len(self.batch.indices), self.method.backbone.dim, device=self.device)

        def loss() -> Tensor:
            z = self.method.head.project(features)
            return self.method.pair_loss(z, z)

        self._backward(loss)

    def views(self) -> None:
        """Make the views of one batch."""
        next(self.loader.batches(0, 1))

    def optimizer_step(self) -> None:
        """Update all parameters once, and measure it."""
        for parameter in self.method.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        optimizer = build_optimizer(self.method, OptimConfig())
        optimizer.step()
        start = time.perf_counter()
        optimizer.step()
        self._synchronize()
        self.update = time.perf_counter() - start

    def step(self) -> float:
        """Return the median seconds of a step of the real loop, from its log; the first step warms up."""
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            train(self.method, self.store, view_specs(preset("simclr", SIZE)), self.cfg, OptimConfig(), run, config={})
            with (run / "metrics.csv").open(newline="") as file:
                speeds = [float(row["images_per_second"]) for row in csv.DictReader(file)][1:]
        return self.cfg.batch_size / median(speeds)

    def _backward(self, loss: Callable[[], Tensor]) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            value = loss()
        value.backward()
        self.method.zero_grad()

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, part: Callable[[], None]) -> float:
        """Return the seconds of one call, after one that warms up."""
        part()
        self._synchronize()
        start = time.perf_counter()
        part()
        self._synchronize()
        return time.perf_counter() - start


def measure(name: str, cfg: BackboneConfig, args: argparse.Namespace) -> None:
    """Print a line of the table."""
    bench = Bench(cfg, args.batch_size, args.steps)
    ratios, parts = [], []
    for _ in range(args.rounds):
        before, step, after = bench.seconds(bench.backbone), bench.step(), bench.seconds(bench.backbone)
        bench.optimizer_step()
        parts.append((step, (before + after) / 2, bench.seconds(bench.head), bench.seconds(bench.views), bench.update))
        ratios.append(parts[-1][1] / step)
    step, backbone, head, views, update = (median(column) for column in zip(*parts, strict=True))
    rest = step - backbone - head - views - update
    shares = " | ".join(f"{100 * part / step:.1f} %" for part in (backbone, head, views, update, rest))
    precision = "bf16" if bench.bf16 else "fp32"
    print(f"| {name} | {precision} | {1000 * step:.0f} ms | {mean(ratios):.3f} ± {stdev(ratios):.3f} | {shares} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5, help="steps of the real loop in each round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"batch {args.batch_size}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| network | precision | step | efficiency | backbone | head and loss | views | optimizer | rest |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, cfg in NETWORKS.items():
        measure(name, cfg, args)


if __name__ == "__main__":
    main()
