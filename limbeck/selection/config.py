"""Settings of a choice of images to label."""

from dataclasses import dataclass
from typing import Literal

from limbeck.neighbors.config import SIMILARITY_THRESHOLD

Strategy = Literal["typical", "coverage", "k-center", "entropy", "margin", "random"]


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Which images to choose, and how many."""

    budget: int = 100
    """Images to choose."""
    strategy: Strategy = "typical"
    """typical: from the densest place of each cluster; coverage: whose surroundings hold the most images that no
    chosen one has near it; k-center: farthest from all chosen ones; entropy, margin: least clear to a classifier of
    the labeled images; random."""
    pool: int = 10_000
    """Images among which is chosen, a random sample of those without a label."""
    similarity_threshold: float = SIMILARITY_THRESHOLD
    """Cosine of thumbnails from which two images are near-duplicates, of which one is chosen at most."""
    seed: int = 0
    """Seed of the sample, of the clusters and of the random choice."""
