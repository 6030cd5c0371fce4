"""Settings of the page to explore images."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError

Method = Literal["auto", "tsne", "pca"]


@dataclass(frozen=True, kw_only=True)
class ExploreConfig:
    """Contents of the page."""

    layout: Method = "auto"
    """Map: tsne, pca (principal components), or auto: t-SNE where a library for it is installed."""
    clusters: int | None = None
    """Number of clusters; by default as many as there are classes, up to 24, or a few more for more images."""
    sample: int | None = None
    """Show this many images, drawn with the seed; by default all."""
    seed: int = 0
    """Seed of the map, the clusters and the sample."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        for name, least in (("clusters", 1), ("sample", 2)):
            if (value := getattr(self, name)) is not None and value < least:
                raise UserError(f"{name} is {value}: it must be at least {least}", code="out-of-range")
