"""Rows with labels: nested, stratified subsets that do not depend on the order of anything."""

import math

import numpy as np
from numpy.typing import NDArray

from limbeck.data.augment.draw_parameters import hash_uniforms


def label_subset(labels: NDArray[np.int64], share: float, seed: int = 0) -> NDArray[np.int64]:
    """Return the rows of a share of every class, ascending: those with the smallest hash of seed and row.

    Of n images of a class there are ceil(share n), so that every class has one, and a smaller share is inside a larger
    one of the same seed.

    Args:
        labels: [N], -1 where there is none.
        share: above 0, at most 1.
        seed: another one gives another subset.
    """
    uniforms = hash_uniforms(seed, 0, 0, np.arange(len(labels)), 1)[:, 0]
    chosen = [np.empty(0, np.int64)]
    for label in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == label)
        count = math.ceil(share * len(rows) - 1e-9)  # 0.07 * 100 is a little more than 7
        chosen.append(rows[np.argsort(uniforms[rows], kind="stable")[:count]])
    return np.sort(np.concatenate(chosen))
