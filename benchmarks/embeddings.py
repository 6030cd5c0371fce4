"""Embedding a store against the bare forward pass, in CPU seconds, and the memory that it takes.

    python -m benchmarks.embeddings STORE --with runs/a --images 4096 --repeats 3

The bare pass runs the network at the last depth over as many batches of ready tensors. Both are in one thread unless
OMP_NUM_THREADS says otherwise, and alternate. The memory is the growth of the process's anonymous pages during the
pass; pages of files that are mapped are the system's and not counted.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from limbeck.data.store.store import Store
from limbeck.embeddings.encoders import FrozenEncoder, load_encoder
from limbeck.embeddings.source import embed_source

BATCH = 256


def cpu_seconds(call: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def anonymous_bytes() -> int:
    """Return the anonymous memory of this process (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def bare(network: FrozenEncoder, images: int) -> None:
    """Run the network over ready tensors."""
    batch = torch.randn(BATCH, 3, network.image_size, network.image_size)
    for _ in range(images // BATCH):
        network.features(batch, [network.last])


def embed_afresh(store: Store, network: FrozenEncoder) -> None:
    """Embed a store with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        embed_source(store, network, depths=[network.last])


def part(store: Store, images: int) -> Store:
    """Return the first images of a store, which still lie on the disk."""
    rows = slice(images)
    return Store(
        images=store.images[rows],
        labels=store.labels[rows],
        widths=store.widths[rows],
        heights=store.heights[rows],
        label_names=store.label_names,
        digest=f"{store.digest}-{images}",
        path=store.path,
    )


def main() -> None:
    """Print a row per number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--with", dest="encoder", required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[4096])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    whole, network = Store.open(args.store), load_encoder(args.encoder)
    bare(network, BATCH)
    print("| images | images per CPU second | bare forward | efficiency | memory |\n|---|---|---|---|---|")
    for images in (count // BATCH * BATCH for count in args.images):
        store, times = part(whole, images), []
        before = anonymous_bytes()
        for _ in range(args.repeats):
            times.append(
                (cpu_seconds(partial(embed_afresh, store, network)), cpu_seconds(partial(bare, network, images)))
            )
        grown = anonymous_bytes() - before
        embedding, forward = (images / np.array(column) for column in zip(*times, strict=True))
        shares = [f / e for e, f in times]
        print(
            f"| {images:,} | {median(embedding):.0f} | {median(forward):.0f} | {median(shares):.2f} "
            f"({min(shares):.2f} to {max(shares):.2f}) | {grown / 1e6:.0f} MB |",
            flush=True,
        )
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)")


if __name__ == "__main__":
    main()
