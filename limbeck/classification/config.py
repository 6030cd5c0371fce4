"""Settings of a classifier."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """How to fit a classifier."""

    head: Literal["ridge", "centroid", "logistic", "knn"] = "ridge"
    """ridge: least squares, with strength and depth by leave-one-out; centroid: nearest mean of a class; logistic:
    multinomial logistic regression; knn: votes of the 20 nearest images, which cannot be exported."""
    depth: int | None = None
    """Blocks or stages to use; by default the depth with the best leave-one-out accuracy."""
    seed: int = 0
    """Seed of what is held out."""
