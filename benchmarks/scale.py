"""How time and memory of everything that reads all images grow with their number.

    python -m benchmarks.scale --images 10000 100000 --work build/scale

Every measurement is a process of its own; times are of all its threads, on the processor, and of the clock. Images are
32 x 32, noise at four scales, so that they compress about as photographs of that size do; one in 64 is a noisy copy of
the one before. The teacher and encoder are two convolutions to 64 features, so that what is measured is what Limbeck
does around a network; graphs are of these features. The peak memory contains the pages of mapped files, which the
system takes back when it needs them.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.teachers.load import load_teacher

SIDE, BATCH, CHUNK = 32, 256, 4096
DIM, NEIGHBORS = 64, 5
COPIED, NOISE = 64, 16  # one image in so many is a copy, with noise of so many gray levels: a cosine of about 0.98
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def write_images(out: Path, count: int) -> None:
    """Write `count` images [N 32 32 3] of uint8 as a .npy file, block by block."""
    draw = np.random.default_rng(0)
    images = np.lib.format.open_memmap(out, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3))
    for start in range(0, count, CHUNK):
        some = min(CHUNK, count - start)
        total = np.full((some, SIDE, SIDE, 3), 128.0, np.float32)
        for scale in (4, 8, 16, 32):
            noise = draw.standard_normal((some, scale, scale, 3), np.float32) * 64 / np.sqrt(scale)
            total += noise.repeat(SIDE // scale, axis=1).repeat(SIDE // scale, axis=2)
        copied = total[: some - 1 : COPIED]
        total[1::COPIED] = copied + NOISE * draw.standard_normal(copied.shape, np.float32)
        images[start : start + some] = total.clip(0, 255)


def store(work: Path, count: int, keep: str) -> None:
    """Build a store."""
    from limbeck.data.store.open import build_store

    source = work / f"{count}.npy"
    quality = 90 if keep == "webp" else None
    build_store(source, work / f"{keep}-{count}", keep="webp" if quality else "raw", quality=quality, workers=1)


def loader(work: Path, count: int, keep: str) -> None:
    """Read an epoch of batches in one view that changes nothing."""
    from limbeck.data.augment.views import View
    from limbeck.data.loader import Loader
    from limbeck.data.sampling import view_specs
    from limbeck.data.store.store import Store

    opened = Store.open(work / f"{keep}-{count}")
    batches = Loader(opened, view_specs([View(size=SIDE)]), BATCH, seed=0, device=torch.device("cpu"))
    for step in range(batches.steps_per_epoch):
        batches._read(batches.indices(step), 0)


def duplicates(work: Path, count: int, search: str) -> None:
    """Find near-duplicates by thumbnails."""
    from limbeck.data.store.store import Store
    from limbeck.neighbors.near_duplicate_report import find_near_duplicates

    find_near_duplicates(Store.open(work / f"raw-{count}"), search="cells" if search == "cells" else "exact")


def small_network() -> nn.Module:
    """Return two convolutions and a pooling, [B 3 32 32] to [B 64], with the same weights in every process."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, DIM, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers)


def small_teacher() -> LoadedTeacher:
    """Return the small network as a teacher."""
    cfg = TeacherConfig(name="two convolutions", image_size=SIDE, mean=MEAN, std=STD)
    return load_teacher(cfg, teacher_module=small_network())


def teacher(work: Path, count: int, keep: str) -> None:
    """Compute the answers of a teacher."""
    from limbeck.data.store.store import Store
    from limbeck.teachers.cache import FeatureCache

    opened = Store.open(work / f"{keep}-{count}")
    FeatureCache(work / f"answers-{count}", small_teacher(), opened, torch.device("cpu")).features()


def features(work: Path, count: int, keep: str) -> None:
    """Compute embeddings, and leave them where `graph` finds them."""
    from limbeck.data.store.store import Store
    from limbeck.embeddings.config import EmbedConfig
    from limbeck.embeddings.encoders import WholeEncoder
    from limbeck.embeddings.source import embed_source

    opened = Store.open(work / f"{keep}-{count}")
    found = embed_source(opened, WholeEncoder(small_teacher()), cfg=EmbedConfig(device="cpu"))
    vectors = found.features[found.encoder.last]
    copy = np.lib.format.open_memmap(work / f"features-{count}.npy", mode="w+", dtype=np.float32, shape=vectors.shape)
    for start in range(0, count, CHUNK):
        copy[start : start + CHUNK] = vectors[start : start + CHUNK]


def graph(work: Path, count: int, search: str) -> None:
    """Search the nearest neighbors of all features."""
    from limbeck.neighbors.graph import build_graph

    rows = np.load(work / f"features-{count}.npy", mmap_mode="r")
    build_graph(rows, NEIGHBORS, search="ivf" if search == "ivf" else "exact")


PARTS: dict[str, tuple[Callable[[Path, int, str], None], str]] = {
    "store, raw": (store, "raw"),
    "store, WebP of quality 90": (store, "webp"),
    "epoch of the loader, raw": (loader, "raw"),
    "epoch of the loader, WebP": (loader, "webp"),
    "near-duplicates, exact": (duplicates, "exact"),
    "near-duplicates, in cells": (duplicates, "cells"),
    "answers of a teacher": (teacher, "raw"),
    "features": (features, "raw"),
    "neighbor graph, exact": (graph, "exact"),
    "neighbor graph, FAISS": (graph, "ivf"),
}


def main() -> None:
    """Measure every part at every size, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 20_000])
    parser.add_argument("--work", type=Path, default=Path("build/scale"))
    parser.add_argument("--without", choices=PARTS, nargs="*", default=(), help="leave these parts out")
    parser.add_argument("--part", choices=PARTS, help="measure this part alone, in this process")
    args = parser.parse_args()
    if args.part:
        measure(args.part, args.images[0], args.work)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    for count in args.images:
        write_images(args.work / f"{count}.npy", count)
        for part in (part for part in PARTS if part not in args.without):
            words = ["--part", part, "--images", str(count), "--work", str(args.work)]
            subprocess.run([sys.executable, "-m", "benchmarks.scale", *words], check=True)


def peak_memory() -> int:
    """Return the most memory in bytes that this process has had (Linux), pages of mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def measure(part: str, count: int, work: Path) -> None:
    """Do one part and print its seconds of processor and of wall time, after imports, and the peak of its memory."""
    torch.set_num_threads(1)
    function, keep = PARTS[part]
    import limbeck.data.store.open  # noqa: F401, before the clock starts

    imported, before, began = peak_memory(), time.process_time(), time.monotonic()
    function(work, count, keep)
    seconds, wall = time.process_time() - before, time.monotonic() - began
    size = sum(path.stat().st_size for path in work.glob(f"{keep}-{count}/*"))
    found = {"part": part, "images": count, "cpu_s": round(seconds, 2), "wall_s": round(wall, 2), "bytes": size}
    print(json.dumps(found | {"imported_mib": imported >> 20, "peak_mib": peak_memory() >> 20}), flush=True)


if __name__ == "__main__":
    main()
