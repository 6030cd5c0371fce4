"""A loaded image that gives its pixels as RGB part by part, so that a large one never exists in several copies."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck.data.pixel_range import PixelRange

WITH_ALPHA = ("RGBA", "RGBa", "LA", "PA")
STRIP = 2**22  # pixels that are converted at a time
IN_FLIGHT = 2**28  # pixels that all threads decode at a time: about 1 GiB
# raw modes of 16-bit colors, of which Pillow keeps the high bytes, and those that read the low bytes instead
_LOW_BYTES = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if np.little_endian else ";16L"}
GRAY_WITH_ALPHA = "LA;16B"  # which Pillow loads as RGBA; there is no raw mode for the low bytes


class Picture(NamedTuple):
    """An image after loading."""

    image: Image.Image
    low_bytes: Image.Image | None = None  # of 16-bit colors, where `image` holds the high ones
    values: PixelRange | None = None  # where pixels have more than 8 bits

    @classmethod
    def load(cls, image: Image.Image, data: bytes | None) -> "Picture":
        """Load an image and, where it is a file of 16-bit colors, the bytes that Pillow drops."""
        if data is not None and image.format == "PPM":
            image.tile = [_raw(tile) for tile in image.tile]  # type: ignore[attr-defined]
        low_bytes = None if data is None else _load_low_bytes(image, data)
        image.load()
        if low_bytes is not None:
            highest = max(high for _, high in _extrema(image)[:3])
            return cls(image, low_bytes, PixelRange.between(0, highest * 256 + 255))
        if image.mode == "F":
            return cls(
                image, None, PixelRange.of(np.asarray(image))
            )  # extrema would pass over values that are no numbers
        if image.mode == "I" or image.mode.startswith("I;16"):
            return cls(image, None, PixelRange.between(*_extrema(image)[0]))
        return cls(image)

    def rgb(self, box: tuple[int, int, int, int]) -> Image.Image:
        """Return a part as 8-bit RGB, transparency on white."""
        part = self.image if box == (0, 0, *self.image.size) else self.image.crop(box)
        if self.values is None:
            return to_rgb(part)
        if self.low_bytes is None:
            return Image.fromarray(self.values.scale(np.asarray(part))).convert("RGB")
        values = np.asarray(part).astype(np.uint16) << 8 | np.asarray(self.low_bytes.crop(box))
        return to_rgb(Image.fromarray(_scale_colors(values, self.values)))

    def squeezed(self, size: int, width: float, height: float) -> Image.Image:
        """Return `width` x `height` pixels from the upper left corner at `size` x `size`, converted in strips.

        The same pixels as those of Pillow's `resize` with a reducing gap of 2.
        """
        columns, rows = self.image.size
        if (columns, rows) == (size, size):
            return self.rgb((0, 0, size, size))
        reduce_x, reduce_y = (max(1, int(side / size / 2)) for side in (width, height))
        small = Image.new("RGB", (-(-columns // reduce_x), -(-rows // reduce_y)))
        step = max(1, STRIP // columns // reduce_y) * reduce_y
        for top in range(0, rows, step):
            strip = self.rgb((0, top, columns, min(top + step, rows)))
            small.paste(strip.reduce((reduce_x, reduce_y)), (0, top // reduce_y))
        box = (0.0, 0.0, width / reduce_x, height / reduce_y)
        return small.resize((size, size), Image.Resampling.BILINEAR, box=box)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of 8-bit channels to RGB, transparency on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _scale_colors(values: NDArray[np.uint16], found: PixelRange) -> NDArray[np.uint8]:
    """Scale colors by their range; alpha always spans 16 bits."""
    scaled = found.scale(values)
    if values.shape[2] == 4:
        scaled[..., 3] = values[..., 3] >> 8
    return scaled


def _load_low_bytes(image: Image.Image, data: bytes) -> Image.Image | None:
    """Return the low bytes of 16-bit colors, or of gray with alpha, from the same file; None for other images."""
    described = getattr(image, "tile", []) if image.mode in ("RGB", "RGBA", "RGBX") else []
    tiles = [_with_low_bytes(tile) for tile in described]
    if not tiles or None in tiles:
        return None
    other: Any = Image.open(io.BytesIO(data), formats=[image.format or ""])
    other.tile = tiles
    other.load()
    if any(GRAY_WITH_ALPHA in (tile.args, *tile.args[:1]) for tile in described):  # both bytes of both, as 4 channels
        return Image.merge("RGBA", [other.getchannel(band) for band in (1, 1, 1, 3)])
    return cast(Image.Image, other)


def _raw(tile: Any) -> Any:
    """Return the raw mode of a PPM's 16-bit colors as they are; Pillow would scale them to 8 bits, in Python."""
    kind, deepest = tile.args if tile.codec_name == "ppm" else ("", 0)
    return tile._replace(codec_name="raw", args="RGB;16B") if kind == "RGB" and deepest > 255 else tile


def _with_low_bytes(tile: Any) -> Any:
    args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    raw, *rest = args or ("",)
    if raw == GRAY_WITH_ALPHA:
        return tile._replace(args=("RGBA", *rest) if isinstance(tile.args, tuple) else "RGBA")
    if not isinstance(raw, str) or raw[-4:] not in _LOW_BYTES or raw[:-4] not in ("RGB", "RGBA", "RGBX", "RGBa"):
        return None
    raw = raw[:-4] + _LOW_BYTES[raw[-4:]]
    return tile._replace(args=(raw, *rest) if isinstance(tile.args, tuple) else raw)


def _extrema(image: Image.Image) -> Any:
    """Return the lowest and the highest value of each band."""
    found: Any = image.getextrema()
    return found if isinstance(found[0], tuple) else (found,)


class PixelBudget:
    """A number of pixels that threads share: one that needs more than are free waits."""

    def __init__(self, pixels: int) -> None:
        self._pixels, self._free, self._changed = pixels, pixels, threading.Condition()

    @contextmanager
    def reserve(self, pixels: int) -> Iterator[None]:
        """Hold so many pixels, or all, while the block runs."""
        needed = min(pixels, self._pixels)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= needed)
            self._free -= needed
        try:
            yield
        finally:
            with self._changed:
                self._free += needed
                self._changed.notify_all()


BUDGET = PixelBudget(IN_FLIGHT)
