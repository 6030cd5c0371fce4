"""How much faster a step is with the kernels that are chosen by measurement: python -m benchmarks.kernels

Steps of SimCLR (views, forward, backward, update) on random pixels with the usual kernels and with the chosen ones, in
turns; processor time of one thread. A row is printed as soon as it is measured.
"""

import argparse
import os
import statistics
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from limbeck.data.augment.views import preset
from limbeck.data.sampling import view_specs
from limbeck.data.store.store import Store
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.kernel_choice import choose_kernels
from limbeck.train.step import StepRunner

SMALL_VIT = {"patch_size": 8, "embed_dim": 64, "depth": 6, "num_heads": 2}
NETWORKS: dict[str, BackboneConfig] = {
    "ViT-Tiny, 197 tokens": BackboneConfig(name="vit_tiny_patch16_224", image_size=224),
    "ViT-Tiny, 65 tokens": BackboneConfig(name="vit_tiny_patch16_224", image_size=32, args={"patch_size": 4}),
    "ViT 64 wide, 17 tokens": BackboneConfig(name="vit_tiny_patch16_224", image_size=32, args=SMALL_VIT),
    "ResNet-10, 32 px": BackboneConfig(name="resnet10t", image_size=32),
    "ResNet-18, 32 px": BackboneConfig(name="resnet18", image_size=32),
    "MobileNetV3-Small, 96 px": BackboneConfig(name="mobilenetv3_small_100", image_size=96),
    "EfficientNet-Lite0, 96 px": BackboneConfig(name="tf_efficientnet_lite0", image_size=96),
}


def steps(setting: dict[str, Any], cfg: TrainConfig, count: int) -> Any:
    """Yield the processor time of steps of a fresh network, after one that warms up."""
    torch.manual_seed(0)
    method = SimCLRConfig().build(build_backbone(setting["backbone"]))
    runner = StepRunner(method, setting["store"], setting["views"], cfg, OptimConfig())
    with closing(runner.loader.batches(0, count + 1)) as batches:
        for step in range(count + 1):
            began = time.process_time()
            runner.train_step(batches, 0)
            if step:
                yield time.process_time() - began


def measure(name: str, cfg: BackboneConfig, batch: int, rounds: int) -> str:
    """Return a row of the table."""
    size = cfg.image_size or 224
    pixels = np.random.default_rng(0).integers(0, 256, (batch * (rounds + 2), size, size, 3), dtype=np.uint8)
    store, views = Store.from_arrays(pixels, None), view_specs(preset("simclr", size))
    usual = TrainConfig(batch_size=batch, epochs=1, accelerator="cpu")
    method = SimCLRConfig().build(build_backbone(cfg))
    began = time.process_time()
    choice = choose_kernels(method, store, views, usual, OptimConfig())
    seconds = time.process_time() - began
    setting = {"backbone": cfg, "store": store, "views": views}
    arms = [steps(setting, training, rounds) for training in (usual, replace(usual, **vars(choice.kernels)))]
    ratios = [before / after for before, after in zip(*arms, strict=True)]
    found = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {name} | {choice.kernels} | {choice.gain:.2f} | {seconds:.0f} s | {found} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    print("| network | chosen | gain measured | to choose | steps, usual / chosen |\n|---|---|---|---|---|")
    for name, cfg in NETWORKS.items():
        print(measure(name, cfg, args.batch, args.rounds), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
