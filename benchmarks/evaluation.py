"""Time and peak memory of evaluating all 12 layers of a ViT-Tiny on two stores, and accuracies next to scikit-learn's.

    limbeck store cifar10/train.parquet runs/c10/train
    limbeck store cifar10/test.parquet runs/c10/test
    python -m benchmarks.evaluation whole runs/c10/train runs/c10/test
    python -m benchmarks.evaluation beside runs/c10/train runs/c10/test --pairs 5

`whole` extracts features of all images at every layer in one pass; then follow 20-NN, 5-NN, the linear probe, geometry
and cost. `beside` fits weighted 20-NN and logistic regression of every layer on the same features of some images, by
Limbeck and, layer by layer on standardized columns, by scikit-learn: processor time of one thread, in pairs. Both
choose the strength of the penalty among four on a fifth of the rows; with --fixed scikit-learn has its default.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor

from limbeck.core.devices import supports_bf16
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.evaluator import evaluate
from limbeck.evaluation.logistic_probe import LogisticProbe, fit_heads
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.metrics.knn import knn_accuracy
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing

VIT = BackboneConfig(name="vit_tiny_patch16_224", image_size=32, args={"patch_size": 8})
CPU = torch.device("cpu")
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""scikit-learn's C, whose default is 1."""
Parts = tuple[dict[int, Tensor], Tensor]
"""Features of every layer, and labels."""


def peak_gib() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def whole(train: Store, test: Store) -> None:
    """Evaluate, and print time and memory."""
    backbone = build_backbone(VIT)
    before, start = peak_gib(), time.perf_counter()
    how = Preprocessing(image_size=32, store_size=train.size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    result = evaluate(backbone, train, test, EvaluateConfig(), preprocessing=how)
    seconds = time.perf_counter() - start
    print(f"{len(train):,} + {len(test):,} images, {len(result.layers)} layers of width {backbone.dim}")
    print(f"{seconds:.0f} s on {torch.get_num_threads()} threads, peak {peak_gib():.2f} GiB ({before:.2f} GiB before)")


def features(store: Store, count: int) -> Parts:
    """Return the features and labels of some images, drawn at random, from the untrained network."""
    torch.manual_seed(0)
    rows = np.sort(np.random.default_rng(0).permutation(len(store))[:count])
    images = eval_images(store, 32, IMAGENET_MEAN, IMAGENET_STD, CPU)
    found = extract(build_backbone(VIT), images, rows, device=CPU, bf16=supports_bf16("cpu"), show="features")
    return found, torch.from_numpy(store.labels[rows])


def ours(train: Parts, test: Parts) -> dict[str, list[float]]:
    """Return the accuracies of all layers by Limbeck."""
    (bank, labels), (queries, answers) = train, test
    heads = fit_heads(LogisticProbe(), bank, labels, int(labels.max()) + 1, CPU)
    linear = heads.accuracy(queries, answers, torch.ones(len(answers))).tolist()
    return {"linear": linear, "knn": [knn_accuracy(bank[d], labels, queries[d], answers) for d in bank]}


def theirs(train: Parts, test: Parts, strengths: tuple[float, ...]) -> dict[str, list[float]]:
    """Return the accuracies of all layers by scikit-learn, one after the other."""
    from sklearn.neighbors import KNeighborsClassifier

    found: dict[str, list[float]] = {"linear": [], "knn": []}
    y, answers = train[1].numpy(), test[1].numpy()
    for depth in train[0]:
        bank, queries = train[0][depth].numpy(), test[0][depth].numpy()
        knn = KNeighborsClassifier(20, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute")
        found["knn"].append(knn.fit(bank, y).score(queries, answers))
        mean, deviation = bank.mean(0), bank.std(0) + 1e-8
        found["linear"].append(
            regression((bank - mean) / deviation, y, (queries - mean) / deviation, answers, strengths)
        )
    return found


def regression(
    x: np.ndarray, y: np.ndarray, queries: np.ndarray, answers: np.ndarray, strengths: tuple[float, ...]
) -> float:
    """Return the accuracy of the regression with the strength that is best on a fifth of the rows."""
    from sklearn.linear_model import LogisticRegression

    def fitted(strength: float, rows: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=1000).fit(x[rows], y[rows])

    order = np.random.default_rng(0).permutation(len(y))
    held, rest = order[::5], np.delete(order, np.s_[::5])
    choose = len(strengths) > 1
    scores = [fitted(strength, rest).score(x[held], y[held]) if choose else 0 for strength in strengths]
    return float(fitted(strengths[int(np.argmax(scores))], order).score(queries, answers))


def timed(run: Callable[[], dict[str, list[float]]]) -> tuple[float, dict[str, list[float]]]:
    """Return the processor time of a call and its result."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def beside(train: Parts, test: Parts, pairs: int, strengths: tuple[float, ...]) -> None:
    """Print processor times, their ratios and the accuracies, pair by pair."""
    ratios = []
    for pair in range(pairs):
        ours_first = pair % 2 == 0
        runs = [lambda: ours(train, test), lambda: theirs(train, test, strengths)]
        found = [timed(run) for run in (runs if ours_first else runs[::-1])]
        (mine, our_scores), (other, their_scores) = found if ours_first else found[::-1]
        ratios.append(other / mine)
        line = {"limbeck": round(mine, 1), "scikit-learn": round(other, 1), "ratio": round(other / mine, 2)}
        print(json.dumps(line | {"load": os.getloadavg()[0]}), flush=True)
    for name in our_scores:
        differences = [100 * (a - b) for a, b in zip(our_scores[name], their_scores[name], strict=True)]
        low, high, mean = min(differences), max(differences), sum(differences) / len(differences)
        print(f"{name}: limbeck less scikit-learn {mean:+.2f} points, {low:+.2f} to {high:+.2f}")
    print(f"median ratio {median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("whole", "beside"))
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--fixed", action="store_true")
    args = parser.parse_args()
    train, test = Store.open(args.train), Store.open(args.test)
    if args.what == "whole":
        return whole(train, test)
    torch.set_num_threads(1)
    strengths = (1.0,) if args.fixed else STRENGTHS
    return beside(features(train, args.rows), features(test, args.queries), args.pairs, strengths)


if __name__ == "__main__":
    main()
