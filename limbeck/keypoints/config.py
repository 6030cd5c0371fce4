"""Options of the keypoint detector."""

from dataclasses import dataclass

from limbeck.core.errors import UserError

DEPTH = 7  # four blocks that halve, two that double, and the convolution to heat maps
HALVED = 16  # sides of the image are a multiple of it
FEWEST_POINTS, MOST_POINTS = 2, 64
NORMALIZATION = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the channels: pixels are in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """A convolutional network from an image to the places of keypoints, as in AutoLink."""

    name: str = "keypoint_detector"
    """The only network for keypoints."""
    keypoints: int = 16
    """Keypoints that are found in every image, and that edges are drawn between."""
    image_size: int = 128
    """Side of the images in pixels; a multiple of 16. Heat maps have a quarter of it."""
    width: int = 64
    """Channels of the first block; the next ones have 2, 4 and 8 times as many."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers with which there is no network."""
        if not FEWEST_POINTS <= self.keypoints <= MOST_POINTS:
            edges = self.keypoints * (self.keypoints - 1) // 2
            raise UserError(
                f"keypoints is {self.keypoints}, with {edges:,} edges between them, each of which is drawn as an "
                f"image of its own: choose {FEWEST_POINTS} to {MOST_POINTS}",
                code="out-of-range",
            )
        if self.image_size < HALVED or self.image_size % HALVED:
            nearest = max(HALVED, round(self.image_size / HALVED) * HALVED)
            raise UserError(
                f"image_size is {self.image_size} and the network halves it four times: choose a multiple of {HALVED}, "
                f"such as {nearest}",
                code="out-of-range",
            )
        if self.width < 1:
            raise UserError(f"width of the network is {self.width}: it must be at least 1", code="out-of-range")

    def widths(self) -> tuple[int, ...]:
        """Return the channels of the map at every depth."""
        w = self.width
        return w, 2 * w, 4 * w, 8 * w, 4 * w, 2 * w, self.keypoints
