"""Fit a classifier to the labeled ones of many rows: depth and strength by leave-one-out, quality on held-out rows."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from limbeck.classification.calibration import Calibration, calibrate
from limbeck.classification.folds import held_out_logits
from limbeck.classification.heads import Head, HeadName, fit_head
from limbeck.classification.ridge import fit_ridge
from limbeck.classification.space import Space

Features = Mapping[int, NDArray[np.float32]]
"""Depth -> [N D_depth]."""


class Fitted(NamedTuple):
    """A head at the depth that suits the labels best."""

    depth: int
    space: Space
    head: Head
    accuracies: dict[int, float]
    """Leave-one-out accuracy of ridge regression at every depth that was tried."""
    calibration: Calibration


def fit_classifier(
    features: Features, labels: NDArray[np.int64], classes: int, name: HeadName = "ridge", seed: int = 0
) -> Fitted:
    """Return a head fitted to all labeled rows, with its quality on rows that it was not fitted to.

    Depth and strength are chosen on the rows that are fitted to, so that held-out rows play no part in either. Features
    of all rows, but no labels of others, determine the space.

    Args:
        features: those of the depths to choose from.
        labels: [N], -1 where there is none; of two classes or more.
        classes: number of classes.
        name: the head.
        seed: of the sample that determines the space, and of what is held out.
    """
    labeled = np.flatnonzero(labels >= 0)
    spaces = {depth: Space.fit(values, seed) for depth, values in features.items()}
    points = {depth: space(torch.from_numpy(features[depth][labeled])) for depth, space in spaces.items()}
    known = labels[labeled]

    def fit(rows: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], Tensor]:
        depth, head, _ = _fit(points, known, rows, classes, name)
        return lambda others: head(points[depth][torch.from_numpy(others)])

    calibration = calibrate(*held_out_logits(fit, known, classes, seed))
    depth, head, accuracies = _fit(points, known, np.arange(len(known)), classes, name)
    return Fitted(depth, spaces[depth], head, accuracies, calibration)


def _fit(
    points: Mapping[int, Tensor], labels: NDArray[np.int64], rows: NDArray[np.int64], classes: int, name: HeadName
) -> tuple[int, Head, dict[int, float]]:
    """Return the depth, of equal ones the shallowest, the head fitted there, and the accuracy of every depth."""
    index, truth = torch.from_numpy(rows), torch.from_numpy(labels[rows])
    fits = {depth: fit_ridge(F.normalize(values[index], dim=1), truth, classes) for depth, values in points.items()}
    depth = max(fits, key=lambda depth: (fits[depth].accuracy, -depth))
    head = fit_head(name, points[depth][index], truth, classes)
    return depth, head, {depth: fit.accuracy for depth, fit in fits.items()}
