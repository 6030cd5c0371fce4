"""Cost of a frozen teacher per step, run live or with cached features; and memory of long queues.

    python benchmarks/teachers.py

A ViT-Small of patch 16 at 224 pixels (random weights: they do not matter for time) is distilled into a ResNet-18 at 224
pixels, batches of 32, SimReg. The arms take turns in one process; printed are medians of their steps in processor time
of one thread, per image, and the student's forward and backward pass alone. Queues: CompRess's loss and its gradient
for a batch of 256 over 65,536 rows of 128 numbers and over 128,000 of 2,048, each in a process of its own; printed is
its peak memory.
"""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.devices import Precision
from limbeck.core.types import Batch, StepInfo
from limbeck.data.loader import Loader
from limbeck.data.sampling import DrawSchedule
from limbeck.data.store.store import Store
from limbeck.losses.relation import relation, relation_divergence
from limbeck.methods import distill_config
from limbeck.methods.base import Distiller, Method
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.queue import Queue
from limbeck.teachers.cache import FeatureCache
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher, TeacherFeatures, TeacherNetwork
from limbeck.teachers.outputs import CachedTeacher, LiveTeacher, cache_views

Batches = Callable[[], Batch]
IMAGES, BATCH, STEPS = 64, 32, 7
CPU, CLOCK = torch.device("cpu"), StepInfo(0, 1)
HALF = (0.5, 0.5, 0.5)


class Big(nn.Module):
    """A ViT-Small."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build_backbone(BackboneConfig(name="vit_small_patch16_224"))

    def forward(self, images: Tensor, feature_map: bool) -> TeacherFeatures:
        """Return the vectors [B D] of images [B 3 H W]."""
        return TeacherFeatures(self.backbone(images).final)


def frozen(precision: Precision) -> LoadedTeacher:
    """Return it, frozen."""
    network = TeacherNetwork(Big(), precision=precision, batch_statistics=False, convolutional=False)
    return LoadedTeacher(
        cfg=TeacherConfig(name="ViT-Small"),
        network=network,
        dim=384,
        map_dim=384,
        image_size=224,
        mean=HALF,
        std=HALF,
        interpolation="bicubic",
        digest="d",
        license="",
    )


def step(method: Method, batch: Batch) -> None:
    """Run forward and backward in bf16."""
    with torch.autocast("cpu", torch.bfloat16):
        method(batch, CLOCK).total.backward()


def distillers(folder: Path, precision: Precision, images: int, batch: int) -> dict[str, tuple[Distiller, Batches]]:
    """Return SimReg of a ResNet-18 with a live and with a cached teacher, and what makes their batches."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, 256, 256, 3), dtype=np.uint8)
    store, teacher, config = Store.from_arrays(pixels), frozen(precision), distill_config("simreg")()
    views = config.make_views(224)
    sample = F.normalize(torch.randn(8, 384), dim=1)
    passes = cache_views(FeatureCache(folder, teacher, store, CPU), DrawSchedule(views, 0, 1))
    live = LiveTeacher(teacher, views, sample, center=False)
    cached = CachedTeacher(teacher, views, sample, passes, center=False)
    student = build_backbone(BackboneConfig(name="resnet18", image_size=224))
    whole, part = (Loader(store, seen, batch, seed=0, device=CPU) for seen in (views, views[:1]))
    return {
        "live": (config.build_distiller(student, live), lambda: next(whole.batches(0, 1))),
        "cached": (config.build_distiller(student, cached), lambda: part.fixed_batch(np.arange(batch))),
    }


def steps(folder: Path) -> dict[str, float]:
    """Return the milliseconds per image of each arm, views included."""
    arms = distillers(folder, "auto", IMAGES, BATCH)
    student = arms["live"][0].backbone
    times: dict[str, list[float]] = {name: [] for name in (*arms, "student alone")}
    for _ in range(STEPS):
        for name, (method, batches) in arms.items():
            began = time.process_time()
            step(method, batches())
            times[name].append(time.process_time() - began)
        images = torch.randn(BATCH, 3, 224, 224)
        began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            student(images).final.square().mean().backward()
        times["student alone"].append(time.process_time() - began)
    return {name: 1e3 * median(seen[1:]) / BATCH for name, seen in times.items()}


def queue(rows: int, width: int) -> None:
    """Print the peak memory that a queue and a step over it add to the process."""
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bank = Queue(rows, {"teacher": width})
    teacher, student = torch.randn(256, width), torch.randn(256, width, requires_grad=True)
    target = relation(teacher, bank["teacher"], 0.04)
    relation_divergence(student, bank["teacher"], 0.04, target).backward()
    bank.enqueue({"teacher": teacher})
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    print(f"queue of {rows:,} x {width}: {rows * width * 4 / 2**20:,.0f} MiB of rows, peak {peak:,.0f} MiB", flush=True)


def main() -> None:
    """Print times and memory."""
    torch.set_num_threads(1)
    for rows, width in ((65536, 128), (128000, 2048)):
        process = multiprocessing.get_context("spawn").Process(target=queue, args=(rows, width))
        process.start()
        process.join()
    with tempfile.TemporaryDirectory() as folder:
        for name, milliseconds in steps(Path(folder)).items():
            print(f"{name}: {milliseconds:.1f} ms per image")


if __name__ == "__main__":
    main()
