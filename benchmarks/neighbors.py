"""Time and recall of the neighbor graph, exact and with FAISS, on random clusters and on features of real images.

    python benchmarks/neighbors.py [--rows 50000] [--dim 512] [--device cpu] [--store runs/c10/train]

The clusters have 50 rows each, centers with a standard deviation of 1 and noise of 0.7 in each coordinate. With
`--store`, the features of an untrained ResNet-18 (width 512) on its images are searched as well. Ten neighbors; each
search runs once.
"""

import argparse
import os
import time
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.store.store import Store
from limbeck.features.extract import extract_matrix
from limbeck.features.images import eval_images
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.neighbors.graph import build_graph, estimate_seconds
from limbeck.neighbors.statistics import graph_statistics
from limbeck.neighbors.vectors import UnitVectors

K = 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SEARCHES: tuple[Literal["exact", "ivf"], ...] = ("exact", "ivf")


def clusters(rows: int, dim: int) -> NDArray[np.float16]:
    """Return noise around rows / 50 centers."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((rows // 50, dim), dtype=np.float32)
    points = np.empty((rows, dim), np.float16)
    for start in range(0, rows, 10_000):
        cluster = generator.integers(0, len(centers), min(10_000, rows - start))
        noise = generator.standard_normal((len(cluster), dim), dtype=np.float32)
        points[start : start + 10_000] = centers[cluster] + 0.7 * noise
    return points


def image_features(store: Store, device: torch.device) -> NDArray[np.float32]:
    """Return pooled features of an untrained network."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="resnet18", image_size=store.size)).to(device).eval()
    images, last = eval_images(store, store.size, MEAN, STD, device), backbone.taps[-1]
    with torch.inference_mode():
        bank = extract_matrix(
            lambda x: {last: backbone(x).final}, images, np.arange(len(store)), {last: backbone.dim}, device=device
        )
    features: NDArray[np.float32] = bank[last].cpu().numpy()
    return features


def measure(name: str, features: NDArray[np.floating], device: torch.device) -> None:
    """Print a row of the table for each search, and the statistics of the exact graph."""
    exact = None
    for search in SEARCHES:
        wall, cpu = time.perf_counter(), time.process_time()
        graph = build_graph(features, K, search=search, device=device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        exact = exact or graph
        recall = np.mean([(graph.neighbors == exact.neighbors[:, [i]]).any(axis=1).mean() for i in range(K)])
        rows, dim = features.shape
        print(f"| {name} | {rows:,} x {dim} | {search} | {wall:.1f} s | {cpu:.1f} s | {recall:.4f} |", flush=True)
    assert exact is not None
    print(f"\n{graph_statistics(exact).summary()}\n", flush=True)


def main() -> None:
    """Print the tables, and the time that search "auto" would estimate for ImageNet."""
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
        measure("untrained ResNet-18", image_features(Store.open(args.store), device), device)
    block = clusters(100_000, 768)
    scale = (1_281_167 / len(block)) ** 2
    hours = estimate_seconds(UnitVectors(block, None, device), K) * scale / 3600
    print(f"exact, 1,281,167 x 768, from one block: {hours:.2f} hours")


if __name__ == "__main__":
    main()
