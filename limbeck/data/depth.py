"""Depth as images: distances or inverse ones of any unit, of 8 or 16 bits or floats, brought to 8 bits, near white.

Every image is stretched from its own least to its own largest value, so that a unit does not matter, but whether values
grow with distance or with nearness does. 0, and what is not finite, is no measurement and is shown as far.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.data.decode import Content, UndecodableError, open_image, pillow_errors, read_file
from limbeck.data.fingerprint import fingerprint
from limbeck.data.pixel_range import Pixels
from limbeck.data.sources.base import ImageSource, Sample
from limbeck.data.store.layout import DepthValues

ONE_CHANNEL = ("L", "I", "F")  # modes of Pillow, and all that begin with I;16


def depth_source(source: ImageSource, values: DepthValues | None, runner: str | None) -> ImageSource:
    """Return a source with its images as depth; without `values` the source. Several channels cannot be decoded.

    Raises:
        UserError: a runner would read the source itself.
    """
    if values is None:
        return source
    if runner is not None:
        raise UserError(
            f"depth is read by this process, and the runner '{runner}' by others: leave the runner out",
            code="flag-without-use",
        )

    def as_depth(samples: Iterator[Sample]) -> Iterator[Sample]:
        return (sample._replace(content=depth_content(sample.content, values)) for sample in samples)

    every_nth = source.every_nth
    return replace(
        source,
        samples=lambda: as_depth(source.samples()),
        every_nth=None if every_nth is None else lambda step: as_depth(every_nth(step)),
        fingerprint=None if source.fingerprint is None else fingerprint([source.fingerprint, "depth", values]),
        depth=values,
    )


def depth_content(content: Content, values: DepthValues) -> Content:
    """Return the pixels [H W] of an image as depth, or why there are none."""
    try:
        return stretch(_read(content), values)
    except UndecodableError as error:
        return error


def stretch(array: NDArray[Any], values: DepthValues) -> Pixels:
    """Return 255 for the nearest value of an image [H W], 0 for the farthest and where there is none."""
    numbers = array.astype(np.float64)
    known = np.isfinite(numbers) & (numbers > 0)
    if not known.any():
        raise UndecodableError("no depth in any pixel: all are 0 or not finite")
    low, high = numbers[known].min(), numbers[known].max()
    near = (high - numbers if values == "distance" else numbers - low) / max(high - low, 1e-12)
    return np.rint(255 * np.where(known, near, 0)).astype(np.uint8)


def _read(content: Content) -> NDArray[Any]:
    if isinstance(content, np.ndarray):
        array = content
    else:
        with pillow_errors():
            image, _ = open_image(read_file(content) if isinstance(content, Path) else content)
            image.load()
            if not image.mode.startswith(ONE_CHANNEL):
                raise UndecodableError(f"a picture of mode {image.mode} is no depth, which has one channel")
            array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2:
        raise UndecodableError(f"an array of shape {array.shape} is no depth, which has one channel")
    return array
