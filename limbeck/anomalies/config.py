"""Settings of a search for unusual images."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError

Compare = Literal["images", "patches"]


@dataclass(frozen=True, kw_only=True)
class OutlierConfig:
    """How unusual an image is."""

    compare: Compare = "images"
    """images: how far the vector of an image is from its nearest ones; patches: how far a place of its feature map is
    from the nearest place in a memory (PatchCore), with a heat map of the image."""
    k: int = 10
    """Nearest images that the distance is a mean over (of images)."""
    memory: int = 2000
    """Places of feature maps that are remembered, spread by k-center (of patches)."""
    seed: int = 0
    """Seed of the places among which the memory is chosen."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        for name in ("k", "memory"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1", code="out-of-range")
