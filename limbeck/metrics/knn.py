"""Nearest-neighbour accuracy of cached features, exact, by matrix products in bounded memory."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

SCORES = 2**26
"""Entries of one block of the query x bank matrix: 256 MiB in float32."""


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, k: int = 20, temperature: float = 0.07
) -> float:
    """Share of `test` [M D] that the weighted vote of the `k` most similar rows of `train` [N D] labels correctly.

    Similarity is the cosine; a neighbour's vote weighs exp(cosine / temperature). The protocol of Wu et al. 2018
    (instance discrimination, section 3.4), with the k and the temperature of DINO and of SDSSL's release. Labels are
    int64, from 0, any number of classes; with fewer than `k` rows in `train`, all of them vote.
    """
    classes = int(train_labels.max()) + 1
    bank, queries = F.normalize(train, dim=-1), F.normalize(test, dim=-1)
    predicted = [
        knn_votes(cosines, train_labels[rows], classes, temperature).argmax(dim=-1)
        for cosines, rows in _search(queries, bank, k)
    ]
    return _accuracy(torch.cat(predicted), test_labels)


def knn_votes(cosines: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Votes [M classes] of the neighbours' `labels` [M k], each of weight exp(cosine / temperature).

    `cosines` [M k] come best first. Every row is scaled by its largest weight, so that no temperature overflows.
    """
    weights = ((cosines - cosines[:, :1]) / temperature).exp()
    return weights.new_zeros(len(weights), classes).scatter_add_(1, labels, weights)


def euclidean_knn_accuracy(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, k: int = 5) -> float:
    """Share of `test` [M D] that the unweighted majority of the `k` nearest rows of `train` [N D] labels correctly.

    Euclidean distance on the features as they are; a tie goes to the smallest label. The "5-nn" of W-MSE
    (Ermolov et al. 2021, section 4.2; htdt/self-supervised).
    """
    classes = int(train_labels.max()) + 1
    center = train.mean(dim=0)  # distances do not change, and float32 keeps more digits of them
    bank, queries = train - center, test - center
    predicted = []
    for _, rows in _search(queries, bank, k, offset=-0.5 * bank.square().sum(dim=-1)):
        votes = bank.new_zeros(len(rows), classes)
        votes.scatter_add_(1, train_labels[rows], votes.new_ones(rows.shape))
        predicted.append(votes.argmax(dim=-1))
    return _accuracy(torch.cat(predicted), test_labels)


def _search(queries: Tensor, bank: Tensor, k: int, offset: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for blocks of `queries`, the `k` largest of `query . row + offset[row]` and the rows that have them.

    With `offset` = -|row|^2 / 2 the largest score is the smallest Euclidean distance.
    """
    for block in queries.split(max(1, SCORES // len(bank))):
        scores = block @ bank.T
        if offset is not None:
            scores += offset
        yield scores.topk(min(k, len(bank)), dim=-1)


def _accuracy(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).double().mean().item()
