"""Settings of a search for unusual images."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError

Compare = Literal["images", "patches"]
CLOSE = 10
"""Neighbors that an outlier is far from."""
MEMORY = 2000
"""Places of a memory."""
CANDIDATES = 20_000
"""Places among which the memory is chosen."""


@dataclass(frozen=True, kw_only=True)
class OutlierConfig:
    """How unusual an image is."""

    compare: Compare = "images"
    """images: how far the vector of an image is from its nearest ones; patches: how far a place of its feature map is
    from the nearest place in a memory (PatchCore), with a heat map of the image."""
    k: int | None = None
    """Nearest images that the distance is a mean over (of images); by default 10, or all there are."""
    memory: int | None = None
    """Places of feature maps in the memory, spread by k-center (of patches); by default 2,000."""
    seed: int = 0
    """Seed of the places among which the memory is chosen."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range, or has no effect on what is compared."""
        for name, most, of in (("k", None, "images"), ("memory", CANDIDATES, "patches")):
            value: int | None = getattr(self, name)
            if value is None:
                continue
            if self.compare != of:
                raise UserError(
                    f"--{name} {value} has no effect where {self.compare} are compared: leave it out, or take "
                    f"--compare {of}",
                    code="no-effect",
                )
            if value < 1 or (most is not None and value > most):
                allowed = "at least 1" if most is None else f"1 to {most:,}"
                raise UserError(f"--{name} is {value}: it must be {allowed}", code="out-of-range")
