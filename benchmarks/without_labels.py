"""Which measure without labels orders checkpoints as labels do: Kendall's tau, by set and method.

    python -m benchmarks.without_labels digits TRAIN,TEST ... --seeds 0 1

Every method trains a narrow ResNet on every set (`digits`, or two labeled stores: one to train on, one to measure on)
and leaves twelve checkpoints, at steps that grow evenly in logarithms. On images that were not trained on, the measures
of `limbeck.evaluation.label_free` are compared with the 20-NN accuracy. Tau is given for each run and over all
checkpoints of a set, with the standard deviation over bootstraps of the checkpoints, and as the mean over the runs,
with the 95 % interval over bootstraps of the runs. Runs that `--out` has are not measured again.
"""

import argparse
import copy
import json
import time
from collections.abc import Sequence
from itertools import combinations, groupby
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

Row = dict[str, Any]
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
    """Return images to train on and others to measure on, at most so many of each, drawn by the seed."""
    generator = np.random.default_rng(seed)
    if name == "digits":
        images, labels = digits()
        order = generator.permutation(len(images))
        first, second = np.sort(order[:train]), np.sort(order[train : train + test])
        return Store.from_arrays(images[first], labels[first]), Store.from_arrays(images[second], labels[second])
    both = []
    for path, count in zip(name.split(","), (train, test), strict=True):
        store = Store.open(path)
        rows = np.sort(generator.permutation(len(store))[:count])
        both.append(Store.from_arrays(np.asarray(store.images)[rows], store.labels[rows]))
    return both[0], both[1]


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


def measured(name: str, seed: int, missing: dict[str, Path], args: argparse.Namespace) -> None:
    """Train methods on a set, and write the measures of all checkpoints of each, those of single images as lists."""
    train, test = stores(name, seed, args.train, args.test)
    size = min(-(-train.size // 4) * 4, args.size)
    how = Preprocessing(image_size=size, store_size=train.size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    block = Block.of(test, args.images, CPU, seed)
    for method, path in missing.items():
        rows = []
        for step, encoder in checkpoints(method, train, size, args.steps, seed):
            began = time.process_time()
            values = {key: value.tolist() for key, value in measure(Checkpoint(encoder, how), block).items()}
            seconds = time.process_time() - began
            knn = accuracy(encoder, train, test, how)
            rows.append({"set": name, "seed": seed, "method": method, "step": step, "knn": knn, "tested": len(test)})
            rows[-1] |= {"seconds": seconds, **values}
            print(name, seed, method, step, f"{knn:.3f}", f"{seconds:.1f} s", flush=True)
        path.write_text(json.dumps(rows))


def kendall(a: Tensor, b: Tensor) -> float:
    """Return Kendall's tau-b of two sequences."""
    signs = [(x[:, None] - x[None, :]).sign().double() for x in (a, b)]
    return ((signs[0] * signs[1]).sum() / (signs[0].square().sum() * signs[1].square().sum()).sqrt()).item()


def tau(rows: Sequence[Row], key: str) -> float:
    """Return Kendall's tau of a measure with the accuracy."""
    values = torch.tensor([[float(np.mean(row[key])), row["knn"]] for row in rows])
    return kendall(*values.T)


def spread(rows: Sequence[Row], key: str) -> tuple[float, float]:
    """Return tau, and its standard deviation over bootstraps of the checkpoints."""
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randint(len(rows), (len(rows),), generator=generator).tolist() for _ in range(BOOTSTRAPS)]
    return tau(rows, key), float(np.nanstd([tau([rows[i] for i in draw], key) for draw in draws]))


def interval(found: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over runs, and the 95 % interval of the mean over bootstraps of the runs."""
    draws = np.random.default_rng(0).choice(np.asarray(found), (10_000, len(found))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(np.mean(found)), float(low), float(high)


def ordered_pairs(rows: Sequence[Row], key: str, *, same: bool) -> tuple[int, int]:
    """Return how many pairs of checkpoints differ by two paired standard errors in both, and how many agree in sign."""
    decided = agree = 0
    for a, b in combinations(rows, 2):
        if (a["set"], a["seed"]) != (b["set"], b["seed"]) or (a["method"] == b["method"]) != same:
            continue
        difference, knn = np.subtract(b[key], a[key]), b["knn"] - a["knn"]
        error = (2 * a["knn"] * (1 - a["knn"]) / a["tested"]) ** 0.5
        if abs(difference.mean()) > 2 * difference.std(ddof=1) / len(difference) ** 0.5 and abs(knn) > 2 * error:
            decided += 1
            agree += (difference.mean() > 0) == (knn > 0)
    return decided, int(agree)


def show(rows: Sequence[Row]) -> None:
    """Print tau of every run and set, the mean over runs, and how many pairs labels order in the same way."""
    runs = {key: [*group] for key, group in groupby(rows, key=lambda row: (row["set"], row["method"], row["seed"]))}
    for (name, method, seed), run in runs.items():
        best = max(row["knn"] for row in run)
        cells = [f"{value:+.2f} ± {error:.2f}" for value, error in (spread(run, key) for key in MEASURES)]
        print(f"| {name} | {method}, {seed} | {run[0]['knn']:.3f} to {best:.3f} | {' | '.join(cells)} |")
    for name, group in groupby(rows, key=lambda row: row["set"]):
        chosen = [*group]
        cells = [f"{value:+.2f} ± {error:.2f}" for value, error in (spread(chosen, key) for key in MEASURES)]
        print(f"| {name} | all {len(chosen)} | | {' | '.join(cells)} |")
    cells = [
        "{:+.2f} ({:+.2f} to {:+.2f})".format(*interval([tau(run, key) for run in runs.values()])) for key in MEASURES
    ]
    print(f"| all | mean of {len(runs)} runs | | {' | '.join(cells)} |")
    for key in MEASURES:
        if isinstance(rows[0][key], list):
            for same in (True, False):
                print(key, "same method" if same else "other method", *ordered_pairs(rows, key, same=same))


def main() -> None:
    """Measure every run that is not in `--out`, and print a table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--methods", nargs="+", default=["simclr", "vicreg", "byol"])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--images", type=int, default=400, help="with eight views each")
    parser.add_argument("--size", type=int, default=32, help="side of what networks see, at most that of the stores")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/without_labels"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in args.sets:
        for seed in args.seeds:
            stem = f"{Path(name.partition(',')[0]).name}-{seed}"
            paths = {method: args.out / f"{stem}-{method}.json" for method in args.methods}
            if missing := {method: path for method, path in paths.items() if not path.exists()}:
                measured(name, seed, missing, args)
            rows += [row for path in paths.values() for row in json.loads(path.read_text())]
    show(rows)


if __name__ == "__main__":
    main()
