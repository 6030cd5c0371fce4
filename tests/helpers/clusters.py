"""Features in clusters, for neighbours and bags."""

import numpy as np
from numpy.typing import NDArray


def clustered(rows: int, dim: int, clusters: int = 20, noise: float = 0.5, seed: int = 0) -> NDArray[np.float32]:
    """Float32 features of any length, in clusters."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((clusters, dim))
    points = centres[draw.integers(0, clusters, rows)] + noise * draw.standard_normal((rows, dim))
    return (points * draw.uniform(0.1, 10, (rows, 1))).astype(np.float32)


def with_copies(rows: int, dim: int) -> NDArray[np.float32]:
    """Of which 40 are copies of one row, 15 of another, and one is the same direction twice as long."""
    features = clustered(rows, dim)
    features[10:50], features[60:75], features[80] = features[5], features[100], 2 * features[90]
    return features
