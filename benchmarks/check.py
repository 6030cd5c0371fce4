"""Files a second that `limbeck check` scans, beside reading their bytes and beside the bare decoder.

    python benchmarks/check.py [--small 20000] [--large 400] [--repeats 3]

Writes JPEGs of smooth noise (quality 85) into a temporary folder: `small` ones of 32 px, `large` ones of 640 x 480.
Repeats of the three alternate; a cell is the median of the repeats with their range. The files are in the page cache.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from limbeck.data.check.scan import check
from limbeck.data.decode import decode
from limbeck.data.store.open import build_store
from limbeck.data.threads import ordered_map


def write(folder: Path, count: int, width: int, height: int) -> Path:
    """`count` different JPEGs in ten classes."""
    draw = np.random.default_rng(0)
    for number in range(count):
        path = folder / str(number % 10) / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=85)
    return folder


def ways(photos: Path, baseline: Path, side: int) -> dict[str, Callable[[], object]]:
    """Name -> one pass over the folder."""
    files = sorted(photos.rglob("*.jpg"))
    workers = os.cpu_count() or 1
    return {
        "read": lambda: [file.read_bytes() for file in files],
        "decode": lambda: sum(1 for _ in ordered_map(lambda file: decode(file, side), files, workers)),
        "check": lambda: check(photos, baseline / "check"),
        "store": lambda: build_store(photos, baseline / "store"),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} before the start, {os.cpu_count()} cores\n")
    print("| files | way | files/s | CPU ms/file |\n|---|---|---|---|")
    for count, width, height, side in ((args.small, 32, 32, 32), (args.large, 640, 480, 256)):
        with tempfile.TemporaryDirectory() as baseline:
            photos = write(Path(baseline) / "photos", count, width, height)
            timed: dict[str, list[tuple[float, float]]] = {}
            for _ in range(args.repeats):
                for name, run in ways(photos, Path(baseline), side).items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    run()
                    timed.setdefault(name, []).append((time.perf_counter() - wall, time.process_time() - cpu))
            for name, passes in timed.items():
                rates = sorted(count / wall for wall, _ in passes)
                cost = statistics.median(cpu for _, cpu in passes) / count * 1e3
                spread = f"{statistics.median(rates):,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f})"
                print(f"| {count:,} of {width} x {height} | {name} | {spread} | {cost:.2f} |")


if __name__ == "__main__":
    main()
