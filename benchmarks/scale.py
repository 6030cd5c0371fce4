"""How time and memory of stores, loaders and near-duplicates grow with the number of images.

    python -m benchmarks.scale --images 10000 100000 --work build/scale

Every measurement is a process of its own; times are of all its threads, on the processor. Images are 32 x 32, noise at
four scales, so that they compress about as photographs of that size do.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

SIDE, BATCH, CHUNK = 32, 256, 4096


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


def duplicates(work: Path, count: int, keep: str) -> None:
    """Find near-duplicates."""
    from limbeck.data.store.store import Store
    from limbeck.neighbors.near_duplicate_report import find_near_duplicates

    find_near_duplicates(Store.open(work / f"{keep}-{count}"), None)


PARTS: dict[str, tuple[Callable[[Path, int, str], None], str]] = {
    "store, raw": (store, "raw"),
    "store, WebP of quality 90": (store, "webp"),
    "epoch of the loader, raw": (loader, "raw"),
    "epoch of the loader, WebP": (loader, "webp"),
    "near-duplicates, raw": (duplicates, "raw"),
}


def main() -> None:
    """Measure every part at every size, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--work", type=Path, default=Path("build/scale"))
    parser.add_argument("--part", choices=PARTS, help="measure this part alone, in this process")
    args = parser.parse_args()
    if args.part:
        measure(args.part, args.images[0], args.work)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    for count in args.images:
        write_images(args.work / f"{count}.npy", count)
        for part in PARTS:
            words = ["--part", part, "--images", str(count), "--work", str(args.work)]
            subprocess.run([sys.executable, "-m", "benchmarks.scale", *words], check=True)


def measure(part: str, count: int, work: Path) -> None:
    """Do one part and print its seconds of processor time, after imports, and the peak memory of the process."""
    torch.set_num_threads(1)
    function, keep = PARTS[part]
    import limbeck.data.store.open  # noqa: F401, before the clock starts

    before = time.process_time()
    function(work, count, keep)
    seconds, peak = time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folder = work / f"{keep}-{count}"
    size = sum(path.stat().st_size for path in folder.iterdir())
    found = {"part": part, "images": count, "cpu_s": round(seconds, 2), "peak_mib": peak // 1024, "bytes": size}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
