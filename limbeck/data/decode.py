"""Decode an image of any format and mode to S x S pixels of 8-bit RGB.

Conventions, where a file leaves a choice:

* EXIF rotation is applied; width and height are those of the upright image.
* Transparency is composited on white, as web pages and image viewers show it.
* 16-bit and float values are scaled by the range of their content, see `pixel_range`.
* CMYK is converted without its color profile; the first frame of an animation is used.
* The aspect ratio is not preserved: the image is resized to a square with an antialiased bilinear filter.
"""

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from limbeck.core.text import format_bytes
from limbeck.data.check.issues import Issue, IssueName
from limbeck.data.formats import plugin_advice, readable_formats
from limbeck.data.picture import BUDGET, WITH_ALPHA, Picture
from limbeck.data.pixel_range import PixelRange, Pixels

Transpose = Image.Transpose

MAX_BYTES = 2**31  # of a file: the largest images that are decoded have about half of that, uncompressed
PLAIN = ("RGB", "L", "P", "1")  # modes that convert to RGB in one way only
# Formats that share their extensions with another: a JPEG followed by more pictures, a BMP without its file header
SAME_FORMAT = {"MPO": "JPEG", "DIB": "BMP"}
# EXIF 2.3, table 4, tag 0x0112: the transposition that turns the stored rows and columns upright
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
SIDEWAYS = (Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90)


class UndecodableError(ValueError):
    """An image that cannot be decoded; the message becomes the detail in `skipped.csv`."""

    def __init__(self, reason: str, name: IssueName = "unreadable") -> None:
        super().__init__(reason)
        self.issue = Issue(name, reason)


Content = Path | bytes | Image.Image | NDArray[Any] | UndecodableError


class Decoded(NamedTuple):
    """A decoded image."""

    pixels: Pixels  # [S S 3]
    width: int  # of the upright original
    height: int
    format: str = ""  # Pillow's name of the file format; "" where there was no file
    issues: tuple[Issue, ...] = ()  # conversions that the owner of the image may not expect


def decode(content: Content, size: int) -> Decoded:
    """Convert an image to RGB and resize it to `size` x `size`; raise `UndecodableError` with the reason."""
    with pillow_errors():
        data = read_file(content) if isinstance(content, Path) else content
        image, values = open_image(data)
        width, height = image.size
        # libjpeg can shrink by 2, 4 or 8 while it decodes; twice the target size is left for the antialiased filter
        drafted = None if image is data else image.draft(None, (2 * size, 2 * size))
        with BUDGET.reserve(image.width * image.height):
            picture = Picture.load(image, data if isinstance(data, bytes) else None)
            upright = UPRIGHT.get(orientation(image))  # after loading, which turns a TIFF upright by itself
            squeezed = picture.squeezed(size, *(drafted[1][2:] if drafted else image.size))
        pixels = np.asarray(squeezed if upright is None else squeezed.transpose(upright))
        issues = conversion_issues(image, values or picture.values, is_file=image is not data)
    if upright in SIDEWAYS:
        width, height = height, width
    kind = image.format or ""
    return Decoded(pixels, width, height, SAME_FORMAT.get(kind, kind), issues)


def original_size(content: Content) -> tuple[int, int]:
    """Return width and height as stored, from the header alone; raise `UndecodableError`."""
    with pillow_errors():
        return open_image(read_file(content) if isinstance(content, Path) else content)[0].size


def open_image(content: bytes | Image.Image | NDArray[Any] | UndecodableError) -> tuple[Image.Image, PixelRange | None]:
    """Open an image, and return the range of an array that was scaled; the pixels of files are read later."""
    if isinstance(content, UndecodableError):
        raise content
    if isinstance(content, Image.Image):
        return content, None
    if isinstance(content, np.ndarray):
        return from_array(content)
    if not content:
        raise UndecodableError("empty file", "empty")
    try:
        return Image.open(io.BytesIO(content), formats=readable_formats()), None
    except UnidentifiedImageError as error:
        raise UndecodableError(plugin_advice(content) or "not an image that Pillow can read") from error


def read_file(path: Path) -> bytes:
    """Return the content of a regular file; raise `UndecodableError` for anything else, such as a FIFO or a device."""
    with pillow_errors(), open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise UndecodableError("not a regular file")
        if state.st_size > MAX_BYTES:
            raise UndecodableError(f"{format_bytes(state.st_size)} are too many for an image", "too_many_pixels")
        return file.read()


def image_format(content: Path | bytes) -> str | None:
    """Return the format of an image by its first bytes, whatever its name; None where it is not an image."""
    known = [name for name in readable_formats() if name != "TGA"]  # TGA has no signature: anything might be one
    if isinstance(content, Path) and not content.is_file():
        return None
    file = content if isinstance(content, Path) else io.BytesIO(content)
    with suppress(Exception), Image.open(file, formats=known) as image:
        return image.format
    return None


def from_array(array: NDArray[Any]) -> tuple[Image.Image, PixelRange | None]:
    """Return an image from [H W] or [H W C] with 1, 3 or 4 channels, and the range if it was scaled to 8 bits."""
    grayscale = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if not grayscale and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        way = ": move the channels from the first place to the last, as numpy.moveaxis does" if first else ""
        raise UndecodableError(f"an array of shape {array.shape} is not [H W] or [H W C] with 1, 3 or 4 channels{way}")
    if not array.size:
        raise UndecodableError(f"an array of shape {array.shape} has no pixels")
    values = None
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype != np.uint8:
        values = PixelRange.of(array)
        array = values.scale(array)
    return Image.fromarray(array.reshape(array.shape[:2]) if grayscale else array), values


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where there is none or where the EXIF block is broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken metadata raises anything at all, and does not make the pixels unreadable
        return 1


def conversion_issues(image: Image.Image, values: PixelRange | None, is_file: bool) -> tuple[Issue, ...]:
    """Return the conversions of a loaded image that its owner may not expect; only files are checked for frames."""
    found = []
    if (number := orientation(image)) in UPRIGHT:
        found.append(Issue("exif_rotated", f"EXIF orientation {number}"))
    if description := color_conversion(image, values):
        found.append(Issue("unusual_mode", description))
    if is_file and has_frames(image):
        found.append(Issue("animated", "only the first frame is used"))
    return tuple(found)


def color_conversion(image: Image.Image, values: PixelRange | None) -> str:
    """Describe how an image of an unusual mode becomes RGB; "" for a plain one."""
    if values is not None:
        return values.description
    if image.mode in WITH_ALPHA:
        alpha = image.getchannel(len(image.getbands()) - 1).getextrema()
        return "transparency, shown on white" if alpha[0] != 255 else ""
    if "transparency" in image.info:
        return "transparency, shown on white"
    if image.mode in PLAIN:
        return ""
    return "CMYK, read without its color profile" if image.mode == "CMYK" else f"{image.mode}, scaled to 8-bit RGB"


def has_frames(image: Image.Image) -> bool:
    """Return whether a file is an animation or has pages; the second picture of an MPO (depth, gain map) is neither."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # a broken second frame raises anything at all, and does not make the first one unreadable
        return False


@contextmanager
def pillow_errors() -> Iterator[None]:
    """Turn whatever Pillow's parsers raise on broken bytes into an `UndecodableError` with a reason of one line."""
    try:
        yield
    except UndecodableError:
        raise
    except UnidentifiedImageError as error:
        raise UndecodableError("not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        pixels = int(re.sub(r"\D*(\d+)\D.*", r"\1", str(error)))
        limit = f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
        raise UndecodableError(f"{pixels:,} pixels, and at most {limit} are read", "too_many_pixels") from error
    except Exception as error:  # also struct.error, SyntaxError, IndexError, zlib.error ...
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        name: IssueName = "truncated" if "truncated" in reason.lower() else "unreadable"
        raise UndecodableError(" ".join(reason.split()), name) from error
