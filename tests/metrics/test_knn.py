"""k-NN accuracies against votes counted one by one, and against the authors' numbers."""

import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.metrics.knn import euclidean_knn_correct, knn_accuracy, knn_classes, knn_votes
from limbeck.neighbors import search
from limbeck.neighbors.search import BlockSize
from tests.helpers.golden import Golden


def blobs(rows: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Float64 features of width 6 around one centre per class, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    centres = torch.randn(classes, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(99))
    return centres[labels] + torch.randn(rows, 6, dtype=torch.float64, generator=generator), labels


def vote_by_hand(query: Tensor, train: Tensor, labels: Tensor, k: int, temperature: float) -> int:
    """Return the definition: exp(cos / T) per neighbour, the class with the largest sum."""
    cosines = [float(query @ row / (query.norm() * row.norm())) for row in train]
    votes: dict[int, float] = defaultdict(float)
    for row in sorted(range(len(train)), key=lambda row: -cosines[row])[:k]:
        votes[int(labels[row])] += math.exp(cosines[row] / temperature)
    return max(votes, key=lambda label: votes[label])


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (7, 10.0), (50, 0.5)])
def test_weighted_vote_is_its_definition(monkeypatch: pytest.MonkeyPatch, k: int, temperature: float) -> None:
    monkeypatch.setitem(search.BLOCK_SIZES, "cpu", BlockSize(7, 9))  # several blocks, the last ones short
    train, labels = blobs(40, 5, seed=0)
    test, _ = blobs(30, 5, seed=1)
    by_hand = torch.tensor([vote_by_hand(query, train, labels, k, temperature) for query in test])
    wrong = (by_hand + 1) % 5
    assert knn_accuracy(train, labels, test, by_hand, k, temperature) == 1.0
    assert knn_accuracy(train, labels, test, wrong, k, temperature) == 0.0


def test_a_tiny_temperature_does_not_overflow() -> None:
    train, labels = blobs(40, 5, seed=0)
    assert knn_accuracy(train.float(), labels, train.float(), labels, k=20, temperature=1e-4) == 1.0


def test_weighted_knn_equals_the_sdssl_authors(golden: Callable[[str], Golden]) -> None:
    data = {name: torch.from_numpy(values) for name, values in golden("sdssl_knn").items()}
    k, temperature = int(data["meta/k"]), float(data["meta/T"])
    train, labels, test = data["in/train_x"], data["in/train_y"], data["in/val_x"]
    accuracy = knn_accuracy(train, labels, test, data["in/val_y"], k, temperature)
    assert 100 * accuracy == pytest.approx(float(data["out/top1"]), abs=1e-12)
    cosines, rows = (F.normalize(test, dim=-1) @ F.normalize(train, dim=-1).T).topk(k)
    ranked = knn_votes(cosines, labels[rows], 1000, temperature).topk(5).indices == data["in/val_y"][:, None]
    np.testing.assert_array_equal(ranked[:, 0], data["out/correct_top1"])
    sure = data["aux/distinct_classes_in_top20"] >= 5  # below, classes without a vote tie for the fifth place
    np.testing.assert_array_equal(ranked.any(dim=1)[sure], data["out/correct_top5"][sure])


@pytest.mark.parametrize("case", ["blobs_k1", "blobs_k5", "blobs_k20", "scaled_k5", "tie_k5"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_euclidean_knn_equals_the_wmse_authors(golden: Callable[[str], Golden], case: str, dtype: torch.dtype) -> None:
    data = golden("wmse_knn")
    train, test = (torch.from_numpy(data[f"{case}/{name}"]).to(dtype) for name in ("x_train", "x_test"))
    train_y, test_y, predicted = (torch.from_numpy(data[f"{case}/{name}"]) for name in ("y_train", "y_test", "pred"))
    k = int(data[f"{case}/k"])
    assert euclidean_knn_correct(train, train_y, test, predicted, k).all()
    assert euclidean_knn_correct(train, train_y, test, test_y, k).double().mean().item() == pytest.approx(
        float(data[f"{case}/acc"]), abs=1e-7
    )


def test_fewer_rows_than_neighbours_all_vote() -> None:
    train, labels = torch.eye(3), torch.tensor([0, 1, 1])
    assert euclidean_knn_correct(train, labels, train, torch.tensor([1, 1, 1]), k=5).all()
    assert knn_accuracy(train, labels, train, labels, k=20) == 1.0


def test_a_class_without_a_vote_is_not_among_the_five() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(60, 5, generator=generator), torch.randn(40, 5, generator=generator)
    labels, truth = torch.arange(60) % 12, torch.arange(40) % 12
    hits = 0
    for row, label in zip(F.normalize(test), truth.tolist(), strict=True):
        cosines = F.normalize(train) @ row
        nearest = cosines.argsort(descending=True)[:7]
        votes = {c: sum(float(((cosines[i] - 1) / 0.5).exp()) for i in nearest if labels[i] == c) for c in range(12)}
        best = sorted((c for c in votes if votes[c]), key=lambda c: -votes[c])[:5]
        hits += label in best
    right = knn_classes(train, labels, test, k=7, temperature=0.5, top=5) == truth[:, None]
    assert right.any(dim=1).double().mean().item() == pytest.approx(hits / 40)
    right = knn_classes(train, labels, test, k=1, top=5) == truth[:, None]
    assert right.any(dim=1).double().mean().item() == knn_accuracy(train, labels, test, truth, k=1)
