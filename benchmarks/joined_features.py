"""k-NN accuracy of a run that ends joined with patch filters, and of what it is joined from.

OMP_NUM_THREADS=2 python -m benchmarks.joined_features RUN --train STORE --test STORE
"""

import argparse
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.features.extract import extract_matrix
from limbeck.features.images import eval_images
from limbeck.metrics.cost import count_operations, count_parameters
from limbeck.metrics.knn import knn_accuracy
from limbeck.metrics.whitening import HalfWhitening
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing, load, load_preprocessing
from limbeck.models.joined import DIRECTIONS, JoinedFilters

CPU = torch.device("cpu")
Pair = tuple[Tensor, Tensor]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--queries", type=int, default=10_000)
    args = parser.parse_args()
    train, test = open_store(args.train), open_store(args.test)
    backbone, how = load(args.run).eval(), load_preprocessing(args.run)
    if backbone.joined is None:
        parser.error(f"{args.run} is not joined with patch filters")
    size = how.image_size
    print(f"{count_parameters(backbone) / 1e6:.2f} M parameters, ", end="")
    print(
        f"{count_operations(backbone, torch.zeros(1, 3, size, size)) / 1e9:.3f} GFLOPs, load {os.getloadavg()[0]:.1f}"
    )
    bank = appended(backbone, backbone.joined, how, train, len(train))
    queries = appended(backbone, backbone.joined, how, test, args.queries)
    labels, expected = torch.tensor(train.labels), torch.tensor(test.labels[: len(queries)])
    for name, (ours, theirs) in variants(backbone.joined, bank, queries).items():
        plain, half = (
            100 * knn_accuracy(a, labels, b, expected) for a, b in ((ours, theirs), half_whitened(ours, theirs))
        )
        error = (plain * (100 - plain) / len(queries)) ** 0.5
        print(f"| {name} | {ours.shape[1]} | {plain:.1f} % | {half:.1f} % | ± {error:.1f} |", flush=True)


def appended(backbone: Backbone, joined: JoinedFilters, how: Preprocessing, store: Store, count: int) -> Tensor:
    """Return the features of network and filters [N E] before they are joined."""
    images = eval_images(store, how.image_size, how.mean, how.std, CPU)

    def features(batch: Tensor) -> dict[int, Tensor]:
        return {0: torch.cat([backbone.model(batch), joined.filter_features(batch)], dim=1)}

    with torch.inference_mode():
        return extract_matrix(features, images, np.arange(len(store))[:count], {0: joined.dim}, device=CPU)[0]


def variants(joined: JoinedFilters, bank: Tensor, queries: Tensor) -> dict[str, Pair]:
    """Return what is compared: both parts, both without the linear map, and the features of the run."""
    width = bank.shape[1] - DIRECTIONS
    parts = [(bank[:, :width], queries[:, :width]), (bank[:, width:], queries[:, width:])]
    scales = [(a - a.mean(dim=0)).square().sum(dim=1).mean().sqrt() for a, _ in parts]
    same = [
        [(part[i] - part[0].mean(dim=0)) / scale for part, scale in zip(parts, scales, strict=True)] for i in (0, 1)
    ]
    ours, theirs = (F.linear(features, joined.weight, joined.bias) for features in (bank, queries))
    return {
        "network alone": parts[0],
        "filters alone": parts[1],
        "both, not half-whitened": (torch.cat(same[0], dim=1), torch.cat(same[1], dim=1)),
        "joined": (ours, theirs),
    }


def half_whitened(bank: Tensor, queries: Tensor) -> Pair:
    """Return the principal components of the bank, and the queries in them, divided by the fourth root of variance."""
    whitening = HalfWhitening.fit(bank, components=bank.shape[1])
    return whitening(bank), whitening(queries)


if __name__ == "__main__":
    main()
