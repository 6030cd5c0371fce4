"""Time and recall of the neighbour graph: exact and by FAISS, on random clusters, and on features of real images.

    python benchmarks/neighbours.py [--rows 50000] [--dim 512] [--device cpu] [--store runs/c10/train]

Clusters: one for every 50 rows, centres of deviation 1 and noise of deviation 0.7 in each coordinate. With `--store`,
also the features of an untrained ResNet-18 (512 wide) on its images. Ten neighbours; one run of each search.
"""

import argparse
import os
import time

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.store.store import Store
from limbeck.features.extract import extract_matrix
from limbeck.features.images import eval_images
from limbeck.models.backbone import BackboneConfig, build_backbone
from limbeck.neighbors.graph import estimate, neighbours
from limbeck.neighbors.statistics import describe
from limbeck.neighbors.vectors import UnitVectors

K = 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def clusters(rows: int, dim: int) -> NDArray[np.float16]:
    """Noise around rows / 50 centres."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((rows // 50, dim), dtype=np.float32)
    points = np.empty((rows, dim), np.float16)
    for start in range(0, rows, 10_000):
        own = draw.integers(0, len(centres), min(10_000, rows - start))
        points[start : start + 10_000] = centres[own] + 0.7 * draw.standard_normal((len(own), dim), dtype=np.float32)
    return points


def images(store: Store, device: torch.device) -> NDArray[np.float32]:
    """Pooled features of a network that has trained nothing."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="resnet18", image_size=store.size)).to(device).eval()
    look, last = eval_images(store, store.size, MEAN, STD, device), backbone.taps[-1]
    with torch.inference_mode():
        bank = extract_matrix(
            lambda x: {last: backbone(x).final}, look, np.arange(len(store)), {last: backbone.dim}, device=device
        )
    return bank[last].cpu().numpy()


def measure(name: str, features: NDArray[np.floating], device: torch.device) -> None:
    """A line of the table for each search."""
    exact = None
    for search in ("exact", "ivf"):
        wall, cpu = time.perf_counter(), time.process_time()
        graph = neighbours(features, K, search=search, device=device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        exact = exact or graph
        recall = np.mean([(graph.rows == exact.rows[:, [i]]).any(axis=1).mean() for i in range(K)])
        rows, dim = features.shape
        print(f"| {name} | {rows:,} x {dim} | {search} | {wall:.1f} s | {cpu:.1f} s | {recall:.4f} |", flush=True)
    assert exact is not None
    print(f"\n{describe(exact).summary()}\n", flush=True)


def main() -> None:
    """Prints tables, and what "auto" would expect of ImageNet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--store")
    args = parser.parse_args()
    device = torch.device(args.device)
    print(f"{device}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} before the start\n")
    print("| features | size | search | wall | CPU | recall@10 |\n|---|---|---|---|---|---|")
    measure("clusters", clusters(args.rows, args.dim), device)
    if args.store:
        measure("untrained ResNet-18", images(Store.open(args.store), device), device)
    block = clusters(100_000, 768)
    scale = (1_281_167 / len(block)) ** 2
    print(
        f"exact, 1,281,167 x 768, from one block: {estimate(UnitVectors(block, None, device), K) * scale / 3600:.2f} hours"
    )


if __name__ == "__main__":
    main()
