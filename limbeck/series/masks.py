"""Draw which steps of a series are hidden, from uniform numbers that are a hash of the row."""

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray


def hidden_steps(
    uniforms: Float[np.ndarray, "B spans_and_1"], present: Bool[np.ndarray, "B T"], span: int
) -> Bool[np.ndarray, "B T"]:
    """Return the steps that are hidden: spans that start at floor(u (T - span + 1)), without missing steps.

    Every series has a hidden and a visible step, if it has two that are present: where all would be hidden, the last
    uniform number chooses one that is not, and where none would be, one that is.

    A reconstruction; data2vec draws starts without replacement and hides the same number of steps in each series of a
    batch (facebookresearch/fairseq 3d262bb).
    """
    steps = present.shape[1]
    starts = np.floor(uniforms[:, :-1] * (steps - span + 1)).astype(np.int64)
    at = np.arange(steps)
    union = ((starts[:, :, None] <= at) & (at < starts[:, :, None] + span)).any(axis=1)
    mask: NDArray[np.bool_] = union & present
    counts, hidden = present.sum(axis=1), mask.sum(axis=1)
    chosen = np.floor(uniforms[:, -1] * counts).astype(np.int64)
    for row in np.flatnonzero(((hidden == counts) | (hidden == 0)) & (counts > 1)):
        mask[row, np.flatnonzero(present[row])[chosen[row]]] ^= True
    return mask
