"""Cost of a training step of each method: time in steps of supervised training and peak memory, relative to SimCLR.

    python benchmarks/methods.py --methods simclr byol

ResNet-18 on 32 x 32 pixels with batches of 128, heads and queues as the methods' defaults have them, random pixels;
one process and one thread per method, through the library's own training loop. Of a run of 7 steps, the median
processor time from the end of one step to the end of the next, without the first two. Distillers have a teacher of 384
numbers with cached features. The supervised step has one view (crop and flip), a linear classifier and cross-
entropy. Memory is the growth of the process from before the network is built to its peak.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.core.types import Batch, DataContext, LossOutput, StepInfo, TeacherOutput
from limbeck.data.augment.views import preset
from limbeck.data.sampling import SamplingPlan, ViewSpec, view_specs
from limbeck.data.store.store import Store
from limbeck.methods import DistillConfig, Method, MethodConfig, method_config, method_names
from limbeck.methods.base import Teacher
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.loop import train

BATCH, SIZE, CLASSES, STEPS = 128, 32, 10, 7
IMAGES = 8 * BATCH
BAGS = np.random.default_rng(0).integers(0, IMAGES, (IMAGES, 5))
CONTEXT = DataContext(num_images=1_000_000, batch_size=BATCH, forward_batch_size=BATCH, num_classes=CLASSES)


class Supervised(Method):
    """Cross-entropy of a linear classifier: the unit of cost."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.dim, CLASSES)

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the loss of one view of each image."""
        assert batch.labels is not None
        return LossOutput(F.cross_entropy(self.classifier(self.backbone(batch.views[0]).final), batch.labels), {}, {})


class CachedFeatures(Teacher):
    """Random features of width 384, drawn in as little time as cached ones are read."""

    dim, map_dim = 384, 0

    def __init__(self, views: tuple[ViewSpec, ...]) -> None:
        self.count = sum(view.network == "teacher" for view in views)
        self.sample = torch.randn(64, self.dim)

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Return the vectors of every view of the teacher."""
        return TeacherOutput(tuple(torch.randn(len(batch.indices), self.dim) for _ in range(self.count)))


def build(config: MethodConfig, backbone: Backbone) -> Method:
    """Build the method, with a teacher for a distiller."""
    if isinstance(config, DistillConfig):
        return config.build_distiller(backbone, CachedFeatures(config.make_views(SIZE)))
    return config.build(backbone)


def measure(name: str) -> dict[str, float]:
    """Seconds of processor time per step, and MiB."""
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    store = Store.from_arrays(pixels, np.arange(len(pixels)) % CLASSES)
    before = peak()
    return {"seconds": run(name, store), "memory": peak() - before}


def run(name: str, store: Store) -> float:
    """Processor seconds of a step."""
    backbone = build_backbone(BackboneConfig(name="resnet18", image_size=SIZE))
    config = None if name == "supervised" else method_config(name)().resolve(CONTEXT)
    method = build(config, backbone) if config else Supervised(backbone)
    views = config.make_views(SIZE) if config else view_specs(preset("supervised", SIZE))
    in_bags = isinstance(config, DistillConfig) and config.bag_spec() is not None
    sampling = SamplingPlan(bags=BAGS if in_bags else None, view_period=1)
    ends: list[float] = []
    last_act = method.after_step

    def note(loss: LossOutput, step_info: StepInfo) -> None:
        last_act(loss, step_info)
        ends.append(time.process_time())

    method.after_step = note  # type: ignore[method-assign]
    cfg = TrainConfig(
        epochs=STEPS / (len(store) // BATCH), batch_size=BATCH, log_every_steps=1000, health_every_steps=0
    )
    with tempfile.TemporaryDirectory() as folder:
        train(method, store, views, cfg, OptimConfig(), Path(folder), config={}, sampling=sampling)
    return median(b - a for a, b in pairwise(ends[1:]))


def peak() -> float:
    """Return the most memory that the process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run a process for each method, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=method_names())
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    names = ["supervised", "simclr", *(name for name in args.methods if name != "simclr")]
    print(
        "| method | step, supervised = 1 | steps per second, SimCLR = 1 | memory, SimCLR = 1 | step, s | memory, MiB |"
    )
    print("|---|---|---|---|---|---|")
    found: dict[str, dict[str, float]] = {}
    for name in names:
        command = [sys.executable, __file__, "--one", name]
        found[name] = mine = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        base, simclr = found["supervised"], found.get("simclr", mine)
        ratios = (mine["seconds"] / base["seconds"], simclr["seconds"] / mine["seconds"])
        cells = [f"{r:.2f}" for r in (*ratios, mine["memory"] / simclr["memory"])]
        print(f"| {name} | {' | '.join(cells)} | {mine['seconds']:.2f} | {mine['memory']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
