"""The heads that a classifier may have: functions of features that are fitted to labeled rows."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.classification.linear import LinearClassifier
from limbeck.classification.logistic import fit_logistic
from limbeck.classification.ridge import fit_ridge
from limbeck.classification.space import Space
from limbeck.metrics.knn import knn_votes
from limbeck.neighbors.search import BLOCK_SIZES, top_k

HeadName = Literal["ridge", "centroid", "logistic", "knn"]
INVERSE_PENALTY = 10.0
"""Of the logistic regression of unit vectors."""
NEIGHBORS, TEMPERATURE = 20, 0.07
SMALLEST_VOTE = 1e-6


class NearestNeighbors(NamedTuple):
    """Logits are the logarithms of the shares of the votes of the nearest rows, weighted with exp(cosine / 0.07)."""

    bank: Float[Tensor, "N C"]
    labels: Int[Tensor, " N"]
    classes: int
    space: Space | None = None
    """Subspace of the bank; None: features are in the space already."""

    def __call__(self, features: Float[Tensor, "M D"]) -> Float[Tensor, "M classes"]:
        """Return the logits of features."""
        features = features if self.space is None else self.space(features)
        bank, size = F.normalize(self.bank, dim=1), BLOCK_SIZES["cpu"]
        parts = []
        for block in F.normalize(features, dim=1).split(size.queries):
            scores = ((start, block @ bank[start : start + size.base].mT) for start in range(0, len(bank), size.base))
            found = top_k(scores, NEIGHBORS)
            votes = knn_votes(found.scores, self.labels[found.positions], self.classes, TEMPERATURE)
            parts.append((votes / votes.sum(dim=1, keepdim=True)).clamp_min(SMALLEST_VOTE).log())
        return torch.cat(parts)


Head = LinearClassifier | NearestNeighbors


def fit_head(name: HeadName, points: Float[Tensor, "N C"], labels: Int[Tensor, " N"], classes: int) -> Head:
    """Return the head `name`, fitted to the directions of rows of two classes or more.

    The largest logit of a point does not depend on its length, so that a head is as good as one for unit vectors and as
    linear as one for features. A class without a row gets a logit that is never the largest.
    """
    unit = F.normalize(points, dim=1)
    if name == "ridge":
        return without_absent(fit_ridge(unit, labels, classes).classifier, labels)
    if name == "logistic":
        return fit_logistic(unit, labels, classes, INVERSE_PENALTY, intercept=False)
    if name == "centroid":
        return without_absent(fit_centroid(unit, labels, classes), labels)
    return NearestNeighbors(unit, labels, classes)


def without_absent(classifier: LinearClassifier, labels: Int[Tensor, " N"]) -> LinearClassifier:
    """Return a classifier that never predicts a class without a row."""
    present = torch.bincount(labels, minlength=len(classifier.bias)) > 0
    return classifier._replace(bias=torch.where(present, classifier.bias, -1e4))


def of_features(head: Head, space: Space) -> Head:
    """Return the head that gives features the logits of `head` in `space`."""
    return space.unfold(head) if isinstance(head, LinearClassifier) else head._replace(space=space)


def fit_centroid(unit: Float[Tensor, "N C"], labels: Int[Tensor, " N"], classes: int) -> LinearClassifier:
    """Return the classifier by the largest cosine with the mean of the unit vectors of a class."""
    sums = unit.new_zeros(classes, unit.shape[1]).index_add_(0, labels, unit)
    return LinearClassifier(F.normalize(sums, dim=1), sums.new_zeros(classes))
