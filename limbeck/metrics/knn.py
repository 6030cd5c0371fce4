"""k-NN accuracies of extracted features, with every training row compared to every test row in bounded memory."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limbeck.neighbors.search import BLOCK_SIZES, TopK, top_k


def knn_accuracy(
    train: Float[Tensor, "N D"],
    train_labels: Int[Tensor, " N"],
    test: Float[Tensor, "M D"],
    test_labels: Int[Tensor, " M"],
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Return the accuracy on `test` of a weighted vote of the `k` training rows with the largest cosine."""
    return knn_correct(train, train_labels, test, test_labels, k, temperature).double().mean().item()


def knn_correct(
    train: Float[Tensor, "N D"],
    train_labels: Int[Tensor, " N"],
    test: Float[Tensor, "M D"],
    test_labels: Int[Tensor, " M"],
    k: int = 20,
    temperature: float = 0.07,
) -> Bool[Tensor, " M"]:
    """Return for which rows of `test` the class of `knn_classes` with the largest vote is right."""
    return knn_classes(train, train_labels, test, k, temperature)[:, 0] == test_labels


def knn_classes(
    train: Float[Tensor, "N D"],
    train_labels: Int[Tensor, " N"],
    test: Float[Tensor, "M D"],
    k: int = 20,
    temperature: float = 0.07,
    top: int = 1,
) -> Int[Tensor, "M top"]:
    """Return the `top` classes with the largest votes of the `k` training rows with the largest cosine, best first.

    A neighbor's vote weighs exp(cosine / temperature). The protocol of Wu et al. 2018 (instance discrimination, section
    3.4), with k and temperature of DINO and of SDSSL's release. Labels count from 0; with fewer than `k` training rows,
    all of them vote. After the first, -1 stands for a class without a vote; the authors' sort lets it be among them.
    """
    classes = int(train_labels.max()) + 1
    base, queries = F.normalize(train, dim=-1), F.normalize(test, dim=-1)
    parts = []
    for found in _search(queries, base, k):
        votes = knn_votes(found.scores, train_labels[found.positions], classes, temperature)
        first = votes.argmax(dim=-1, keepdim=True)  # of equal votes the smallest label
        others = votes.scatter(1, first, -1.0).topk(min(top, classes) - 1)
        parts.append(torch.cat([first, others.indices.masked_fill(others.values <= 0, -1)], dim=1))
    return torch.cat(parts)


def knn_votes(
    cosines: Float[Tensor, "M k"], labels: Int[Tensor, "M k"], classes: int, temperature: float
) -> Float[Tensor, "M classes"]:
    """Return the votes for each class of neighbors with these `labels` and weights exp(cosine / temperature).

    `cosines` are sorted, best first. Each row is divided by its largest weight, so that no temperature overflows.
    """
    weights = ((cosines - cosines[:, :1]) / temperature).exp()
    return weights.new_zeros(len(weights), classes).scatter_add_(1, labels, weights)


def euclidean_knn_correct(
    train: Float[Tensor, "N D"],
    train_labels: Int[Tensor, " N"],
    test: Float[Tensor, "M D"],
    test_labels: Int[Tensor, " M"],
    k: int = 5,
) -> Bool[Tensor, " M"]:
    """Return for which rows of `test` an unweighted majority vote of the `k` nearest training rows is right.

    Euclidean distance of the features as they are; a tie goes to the smallest label. The "5-nn" of W-MSE (Ermolov et
    al. 2021, section 4.2; htdt/self-supervised).
    """
    classes = int(train_labels.max()) + 1
    center = train.mean(dim=0)  # distances do not change, and float32 keeps more digits of them
    base, queries = train - center, test - center
    predicted = []
    for found in _search(queries, base, k, offset=-0.5 * base.square().sum(dim=-1)):
        votes = base.new_zeros(len(found.positions), classes)
        votes.scatter_add_(1, train_labels[found.positions], votes.new_ones(found.positions.shape))
        predicted.append(votes.argmax(dim=-1))
    return torch.cat(predicted) == test_labels


def _search(queries: Tensor, base: Tensor, k: int, offset: Tensor | None = None) -> Iterator[TopK]:
    """Yield, for blocks of `queries`, the `k` base rows with the largest `query . row + offset[row]`.

    With `offset` = -|row|^2 / 2 the largest score is the smallest Euclidean distance.
    """
    size = BLOCK_SIZES[base.device.type]
    for block in queries.split(size.queries):
        yield top_k(_score_blocks(block, base, size.base, offset), k)


def _score_blocks(queries: Tensor, base: Tensor, width: int, offset: Tensor | None) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(base), width):
        scores = queries @ base[start : start + width].T
        yield start, scores if offset is None else scores + offset[start : start + width]
