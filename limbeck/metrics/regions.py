"""Region similarity J and boundary accuracy F of the masks of an object, as DAVIS measures them.

Perazzi et al., *A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation*, CVPR 2016;
davisvideochallenge/davis2017-evaluation ac7c43f `metrics.py` (`db_eval_iou`, `f_measure`), `utils.py`
(`db_statistics`).
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

TOLERANCE = 0.008  # of the diagonal: how far a boundary may be from the true one


class Statistics(NamedTuple):
    """The scores of the frames of an object."""

    mean: float
    recall: float
    """Share of the frames with a score above one half."""
    decay: float
    """Mean of the first quarter less that of the last one."""


def region_similarity(found: Bool[NDArray[np.bool_], "H W"], truth: Bool[NDArray[np.bool_], "H W"]) -> float:
    """Return the intersection over the union of two masks; 1 where both are empty."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def boundary_accuracy(found: Bool[NDArray[np.bool_], "H W"], truth: Bool[NDArray[np.bool_], "H W"]) -> float:
    """Return the harmonic mean of precision and recall of the boundary of a mask.

    Precision is the share of its pixels that are near one of the true boundary, and recall the reverse; near is within
    0.8 % of the diagonal, rounded up. Without a boundary on one side it is 0, on both sides 1.
    """
    edge, true_edge = (np.argwhere(boundary(mask)) for mask in (found, truth))
    if not len(edge) or not len(true_edge):
        return float(len(edge) == len(true_edge))
    reach = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    precision, recall = _near(edge, true_edge, reach), _near(true_edge, edge, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _near(points: Int[NDArray[np.int64], "p 2"], others: Int[NDArray[np.int64], "q 2"], reach: int) -> float:
    """Return the share of points with one of the others within reach."""
    from scipy.spatial import cKDTree

    distances, _ = cKDTree(others).query(points, distance_upper_bound=reach + 0.5)
    return float((distances <= reach).mean())


def boundary(mask: Bool[NDArray[np.bool_], "H W"]) -> Bool[NDArray[np.bool_], "H W"]:
    """Return the pixels with another value to the right, below, or to the lower right.

    Pixels of the last row are compared along it, those of the last column likewise, and the last one never.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    found: NDArray[np.bool_] = (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])
    return found


def statistics(scores: Float[NDArray[np.float64], " frames"]) -> Statistics:
    """Return mean, recall and decay of the scores of an object; quarters overlap in one frame, as the authors' do."""
    edges = np.round(np.linspace(1, len(scores), 5) + 1e-10).astype(int) - 1
    first, last = scores[edges[0] : edges[1] + 1], scores[edges[3] : edges[4] + 1]
    return Statistics(float(scores.mean()), float((scores > 0.5).mean()), float(first.mean() - last.mean()))
