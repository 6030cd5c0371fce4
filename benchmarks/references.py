"""k-NN accuracy of what needs no training: raw pixels and patch filters, plain and half-whitened.

OMP_NUM_THREADS=1 python -m benchmarks.references --train STORE --test STORE --bank 10000 50000
"""

import argparse
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.features.extract import extract_matrix
from limbeck.features.fitted_patch_filters import PatchFilters
from limbeck.features.images import eval_images
from limbeck.features.pixels import CenteredPixels
from limbeck.metrics.knn import knn_accuracy
from limbeck.metrics.whitening import HalfWhitening
from limbeck.models.patch_filters import PatchFiltersConfig

CPU = torch.device("cpu")


class Line(NamedTuple):
    """A row of the table of one bank."""

    name: str
    width: int
    plain: float
    whitened: float


def main() -> None:
    """Print seconds of one thread and a table of accuracies for each bank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--bank", type=int, nargs="+", default=[10_000])
    parser.add_argument("--filters", type=int, nargs="+", default=[400])
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, test = open_store(args.train), open_store(args.test)
    print(f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    for network in networks(train, args.filters):
        bank, queries = features(network, train), features(network, test)
        for count in args.bank:
            rows = np.sort(np.random.default_rng(0).permutation(len(train))[:count])
            line = score(network, bank[rows], queries, train.labels[rows], test.labels)
            error = (line.plain * (1 - line.plain) / len(test)) ** 0.5
            print(
                f"| {line.name} | {line.width} | {count:,} | {line.plain:.1%} | {line.whitened:.1%} | ± {error:.1%} |"
            )


def networks(train: Store, sizes: list[int]) -> Iterator[CenteredPixels | PatchFilters]:
    """Yield the networks, fitted to `train`."""
    yield CenteredPixels.fit(train)
    for filters in sizes:
        start = time.thread_time()
        network = PatchFilters.fit(train, PatchFiltersConfig(filters=filters))
        print(f"{filters} filters fitted in {time.thread_time() - start:.0f} s of one thread")
        yield network


def features(network: CenteredPixels | PatchFilters, store: Store) -> Tensor:
    """Return the features of all images of a store, and print what an image takes."""
    seen = network.preprocessing
    images, start = eval_images(store, seen.image_size, seen.mean, seen.std, CPU), time.thread_time()
    rows, dims = np.arange(len(store)), {0: network.dim}
    with torch.inference_mode():
        bank = extract_matrix(lambda batch: {0: network(batch)}, images, rows, dims, device=CPU)[0]
    print(f"{1e3 * (time.thread_time() - start) / len(store):.2f} ms of one thread per image")
    return bank


def score(
    network: CenteredPixels | PatchFilters, bank: Tensor, queries: Tensor, labels: np.ndarray, expected: np.ndarray
) -> Line:
    """Return the accuracies of the weighted 20-NN on plain and on half-whitened features."""
    own, wanted = torch.from_numpy(np.array(labels)), torch.from_numpy(np.array(expected))
    whiten = HalfWhitening.fit(bank)
    plain = knn_accuracy(bank, own, queries, wanted)
    return Line(type(network).__name__, network.dim, plain, knn_accuracy(whiten(bank), own, whiten(queries), wanted))


if __name__ == "__main__":
    main()
