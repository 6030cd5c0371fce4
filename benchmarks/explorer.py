"""How large the explorer's page is, how soon it shows its points, and how smoothly they move, by number of images.

    python -m benchmarks.explorer STORE --with runs/a --sizes 1000 10000 50000

Prints a row per size: bytes of the page, side of a thumbnail, CPU seconds of the command once the embeddings are in the
cache, and in headless Chromium without a network the milliseconds until the first paint, until the points are drawn,
and until photographs and neighbors are there (median of the repeats), and frames per second while the map moves.
Chromium draws without a GPU here, unless one is found.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from limbeck.downstream.explorer.build import write_explorer
from limbeck.downstream.explorer.config import ExploreConfig
from limbeck.embeddings.source import embed_source
from tests.helpers.chromium import opened

MOVE = """async () => {
  const start = performance.now();
  for (let k = 0; k < 60; k++) {
    moveBy(k % 2 ? 9 : -8, 3 * Math.sin(k));
    await new Promise(requestAnimationFrame);
  }
  return 60000 / (performance.now() - start);
}"""
TIMES = """() => [
  performance.getEntriesByName("first-contentful-paint")[0].startTime,
  performance.getEntriesByName("points")[0].startTime, performance.getEntriesByName("ready")[0].startTime]"""


class Opened(NamedTuple):
    """What one opening of a page took."""

    paint: float  # milliseconds
    points: float
    ready: float
    fps: float
    fps_without_photos: float


def open_once(page: Path) -> Opened:
    """Open a page and move its map."""
    with opened(page, width=1440, height=900) as tab:
        paint, points, ready = tab.evaluate(TIMES)
        with_photos = tab.evaluate(MOVE)
        tab.locator("#photos").click()
        return Opened(paint, points, ready, with_photos, tab.evaluate(MOVE))


def row(args: Any, images: int, folder: Path) -> str:
    """Write the page of some images, open it a few times, and return the row."""
    start = time.process_time()
    cfg = ExploreConfig(sample=images, layout=args.layout)
    found = write_explorer(args.store, args.encoder, folder / f"{images}.html", cfg=cfg)
    assert found is not None, "there is one process"
    seconds = time.process_time() - start
    times = [open_once(found.path) for _ in range(args.repeats)]
    paint, points, ready, fps, without = (median(column) for column in zip(*times, strict=True))
    return (
        f"| {found.images:,} | {found.bytes / 1e6:.2f} MB | {found.tile} px | {len(found.depths)} | {seconds:.0f} s "
        f"| {paint:.0f} ms | {points:.0f} ms | {ready:.0f} ms | {fps:.0f} | {without:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--with", dest="encoder", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--layout", choices=["auto", "tsne", "pca"], default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    embed_source(args.store, args.encoder)
    print(
        "| images | page | thumbnail | depths | CPU | first paint | points | ready | frames/s | without photographs |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for images in args.sizes:
            print(row(args, images, Path(folder)), flush=True)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
