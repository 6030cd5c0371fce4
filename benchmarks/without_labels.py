"""Which measure without labels orders checkpoints as labels do: Kendall's tau, by set and method.

    python -m benchmarks.without_labels digits STORE ... --methods simclr vicreg byol

Every method trains a narrow ResNet on every set (`digits`, or a labeled store) and leaves twelve checkpoints, at steps
that grow evenly in logarithms. On test images that were not trained on, the measures of `limbeck.evaluation.label_free`
are compared with the 20-NN accuracy. Tau is given within each method and over all checkpoints of a set, with the
standard deviation over bootstraps of the checkpoints.
"""

import argparse
import copy
import json
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.core.types import Encoder, Features, StepInfo
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.loader import Loader
from limbeck.data.samples import digits
from limbeck.data.store.store import Store
from limbeck.embeddings.encoders import FrozenEncoder
from limbeck.evaluation.label_free import MEASURES, Block, measure
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.methods import method_config
from limbeck.metrics.knn import knn_accuracy
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing
from tests.helpers.tiny import shrink

CHECKPOINTS, BOOTSTRAPS = 12, 200
CPU = torch.device("cpu")
HEADS = {"hidden": 256, "dim": 64}
NARROW = {"channels": [32, 64, 96, 160], "layers": [1, 1, 1, 1], "stem_type": "deep", "stem_width": 16}


class Checkpoint(FrozenEncoder):
    """An encoder of a run on its way."""

    def __init__(self, encoder: Encoder, how: Preprocessing) -> None:
        self.encoder, self.dims = encoder.eval(), {encoder.taps[-1]: encoder.dim}
        self.image_size, self.mean, self.std = how.image_size, how.mean, how.std

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.encoder.to(device)

    def features(self, images: Tensor, depths: Sequence[int], feature_maps: bool = False) -> Features:
        """Run one forward pass in bf16."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found: Features = self.encoder(images, tuple(depths), feature_maps)
        return found


def stores(name: str, seed: int, train: int, test: int) -> tuple[Store, Store]:
    """Return images to train on and others to measure on."""
    if name == "digits":
        images, labels = digits()
    else:
        store = Store.open(name)
        images, labels = np.asarray(store.images), np.asarray(store.labels)
    order = np.random.default_rng(seed).permutation(len(images))
    first, second = (np.sort(rows) for rows in (order[:train], order[train : train + test]))
    return Store.from_arrays(images[first], labels[first]), Store.from_arrays(images[second], labels[second])


def accuracy(encoder: Encoder, known: Store, test: Store, how: Preprocessing) -> float:
    """Return the 20-NN accuracy of the test images among the training images."""
    found = [_features(encoder, store, how) for store in (known, test)]
    labels = [torch.from_numpy(np.asarray(store.labels)) for store in (known, test)]
    return knn_accuracy(found[0], labels[0], found[1], labels[1])


def _features(encoder: Encoder, store: Store, how: Preprocessing) -> Tensor:
    images = eval_images(store, how.image_size, how.mean, how.std, CPU)
    return extract(encoder, images, np.arange(len(store)), taps=encoder.taps[-1:], device=CPU, bf16=True)[
        encoder.taps[-1]
    ]


def checkpoints(name: str, train: Store, size: int, steps: int, seed: int) -> list[tuple[int, Encoder]]:
    """Train a method and return copies of its encoder, the untrained one first."""
    torch.manual_seed(seed)
    config = shrink(method_config(name)(), HEADS)
    backbone = BackboneConfig(name="resnet18", image_size=size, args=NARROW, stem_pool=True)
    method = config.build(build_backbone(backbone))
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=2e-3, weight_decay=0.01)
    loader = Loader(train, config.make_views(size), batch_size=128, seed=seed, device=CPU)
    due = {0, *np.geomspace(3, steps, CHECKPOINTS - 1).round().astype(int).tolist()}
    found = [(0, copy.deepcopy(method.encoder()))]
    for step, batch in enumerate(loader.batches(0, steps)):
        info = StepInfo(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            loss = method(batch, info)
        optimizer.zero_grad()
        loss.total.backward()
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20)
        optimizer.step()
        method.after_step(loss, info)
        if step + 1 in due:
            found.append((step + 1, copy.deepcopy(method.encoder())))
    return found


def kendall(a: Tensor, b: Tensor) -> float:
    """Return Kendall's tau-b of two sequences."""
    signs = [(x[:, None] - x[None, :]).sign().double() for x in (a, b)]
    return ((signs[0] * signs[1]).sum() / (signs[0].square().sum() * signs[1].square().sum()).sqrt()).item()


def spread(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Return tau, and its standard deviation over bootstraps of the pairs."""
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randint(len(a), (len(a),), generator=generator) for _ in range(BOOTSTRAPS)]
    return kendall(a, b), float(np.nanstd([kendall(a[rows], b[rows]) for rows in draws]))


def ordered_pairs(
    rows: Sequence[dict[str, Any]], by_image: Sequence[dict[str, Tensor]], key: str, *, same: bool
) -> tuple[int, int]:
    """Return how many pairs of checkpoints differ by two paired standard errors in both, and how many agree in sign."""
    decided = agree = 0
    for (a, x), (b, y) in combinations(zip(rows, by_image, strict=True), 2):
        if a["set"] != b["set"] or (a["method"] == b["method"]) != same:
            continue
        difference = y[key] - x[key]
        knn, images = b["knn"] - a["knn"], 1000
        error = (2 * a["knn"] * (1 - a["knn"]) / images) ** 0.5
        if difference.mean().abs() > 2 * difference.std() / len(difference) ** 0.5 and abs(knn) > 2 * error:
            decided += 1
            agree += (difference.mean().item() > 0) == (knn > 0)
    return decided, agree


def main() -> None:
    """Train, measure, and print a table for every set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--methods", nargs="+", default=["simclr", "vicreg", "byol"])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--images", type=int, default=400, help="with eight views each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="without_labels.json")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    by_image: list[dict[str, Tensor]] = []
    for name in args.sets:
        train, test = stores(name, args.seed, args.train, args.test)
        size = -(-train.size // 4) * 4
        how = Preprocessing(image_size=size, store_size=train.size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        block = Block.of(test, args.images, CPU, args.seed)
        for method in args.methods:
            for step, encoder in checkpoints(method, train, size, args.steps, args.seed):
                began = time.process_time()
                found = measure(Checkpoint(encoder, how), block)
                values = {key: value.mean().item() for key, value in found.items()}
                seconds = time.process_time() - began
                knn = accuracy(encoder, train, test, how)
                rows.append({"set": name, "method": method, "step": step, "knn": knn, "seconds": seconds, **values})
                by_image.append({key: value for key, value in found.items() if value.dim()})
                print(json.dumps(rows[-1]), flush=True)
    Path(args.out).write_text(json.dumps(rows, indent=1))
    for name in args.sets:
        for method in (*args.methods, "all"):
            chosen = [row for row in rows if row["set"] == name and method in (row["method"], "all")]
            truth = torch.tensor([row["knn"] for row in chosen])
            for key in MEASURES:
                tau, error = spread(torch.tensor([row[key] for row in chosen]), truth)
                print(f"{name} {method}: {key} {tau:+.2f} ± {error:.2f}")
    for key in by_image[0]:
        for same in (True, False):
            print(key, "same method" if same else "other method", *ordered_pairs(rows, by_image, key, same=same))


if __name__ == "__main__":
    main()
