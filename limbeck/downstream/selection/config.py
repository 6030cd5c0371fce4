"""Settings of a choice of images to label."""

from dataclasses import dataclass, replace
from typing import Literal

from limbeck.neighbors.config import SIMILARITY_THRESHOLD

Strategy = Literal["typical", "coverage", "k-center", "entropy", "margin", "moby", "random"]
TRAINED: Strategy = "moby"
"""The strategy that trains its own network (`limbeck.downstream.active`); the others take features."""
NEEDS_LABELS: tuple[Strategy, ...] = ("entropy", "margin")
"""The strategies that need images of two classes with labels."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Which images to choose, and how many."""

    budget: int = 100
    """Images to choose."""
    strategy: Strategy = "typical"
    """typical: from the densest place of each cluster; coverage: whose surroundings hold the most images that no
    chosen one has near it; k-center: farthest from all chosen ones; entropy, margin: least clear to a classifier of
    the labeled images; moby: farthest, as k-center, in a network that is trained with these labels; random."""
    pool: int = 10_000
    """Images among which is chosen, a random sample of those without a label."""
    similarity_threshold: float = SIMILARITY_THRESHOLD
    """Cosine of thumbnails from which two images are near-duplicates, of which one is chosen at most."""
    seed: int = 0
    """Seed of the sample, of the clusters and of the random choice."""

    def for_start(self) -> "SelectConfig":
        """Return the settings of a choice when nothing has a label: a strategy that needs labels chooses at random."""
        return replace(self, strategy="random") if self.strategy in (*NEEDS_LABELS, TRAINED) else self
