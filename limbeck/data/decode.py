"""Decode an image of any format and mode to S x S pixels of 8-bit RGB.

Conventions, where a file leaves a choice:

* EXIF rotation is applied; width and height are those of the upright image.
* Transparency is composited on white, as web pages and image viewers show it.
* 16-bit gray values are divided by 257, so that 65535 becomes 255; floats span [0, 1].
* CMYK is converted without its color profile; the first frame of an animation is used.
* The aspect ratio is not preserved: the image is resized to a square with an antialiased bilinear filter.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from limbeck.core.text import format_bytes
from limbeck.data.check.issues import Issue, IssueName
from limbeck.data.store.layout import Pixels

Transpose = Image.Transpose

# An explicit list, because Pillow would pass PostScript to an interpreter; HEIF is available with its plug-in.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF", "HEIF", "ICO", "QOI")
WITH_ALPHA = ("RGBA", "RGBa", "LA", "PA")
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
        image = open_image(content)
        width, height = image.size
        # libjpeg can shrink by 2, 4 or 8 while it decodes; twice the target size is left for the antialiased filter
        drafted = None if image is content else image.draft(None, (2 * size, 2 * size))
        image.load()
        upright = UPRIGHT.get(orientation(image))  # after loading, which turns a TIFF upright by itself
        resized = resize(to_rgb(image), size, box=drafted[1] if drafted else None)
        pixels = np.asarray(resized if upright is None else resized.transpose(upright))
        issues = conversion_issues(image, is_file=image is not content)
    if upright in SIDEWAYS:
        width, height = height, width
    kind = image.format or ""
    return Decoded(pixels, width, height, SAME_FORMAT.get(kind, kind), issues)


def original_size(content: Content) -> tuple[int, int]:
    """Return width and height as stored, from the header alone; raise `UndecodableError`."""
    with pillow_errors():
        return open_image(content).size


def open_image(content: Content) -> Image.Image:
    """Open an image; the pixels of files and bytes are read later."""
    if isinstance(content, UndecodableError):
        raise content
    if isinstance(content, Image.Image):
        return content
    if isinstance(content, np.ndarray):
        return from_array(content)
    data = content if isinstance(content, bytes) else read_file(content)
    if not data:
        raise UndecodableError("empty file", "empty")
    return Image.open(io.BytesIO(data), formats=readable_formats())


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


@cache
def readable_formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that this build of Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def from_array(array: NDArray[Any]) -> Image.Image:
    """Return an image from [H W] or [H W C] with 1, 3 or 4 channels; 8-bit, 16-bit, boolean, or float in [0, 1]."""
    grayscale = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if not grayscale and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise UndecodableError(f"an array of shape {array.shape} is not [H W] or [H W C] with 1, 3 or 4 channels")
    pixels = eight_bit(array)
    return Image.fromarray(pixels.reshape(pixels.shape[:2]) if grayscale else pixels)


def eight_bit(array: NDArray[Any]) -> Pixels:
    """Scale an array to 0..255; raise `UndecodableError` where its type does not tell the range of the values."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return np.rint(array / 257).astype(np.uint8)
    if array.dtype.kind != "f":
        raise UndecodableError(f"pixels of type {array.dtype}, not uint8, uint16, bool or float in [0, 1]")
    if not (array.min() >= 0 and array.max() <= 1):  # False for nan, too
        raise UndecodableError(f"float pixels outside [0, 1]: from {array.min():.4g} to {array.max():.4g}")
    return np.rint(array * 255).astype(np.uint8)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB; see the conventions above."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I":  # how Pillow before 11 opened 16-bit PNG
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise UndecodableError(f"32-bit pixels outside 0..65535: from {wide.min()} to {wide.max()}")
        return from_array(wide.astype(np.uint16)).convert("RGB")
    if image.mode == "F" or image.mode.startswith("I;16"):
        return from_array(np.asarray(image)).convert("RGB")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def resize(image: Image.Image, size: int, box: tuple[float, float, float, float] | None = None) -> Image.Image:
    """Resize the part `box` of an image, or all of it, to `size` x `size`, whatever its aspect ratio."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where there is none or where the EXIF block is broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken metadata raises anything at all, and does not make the pixels unreadable
        return 1


def conversion_issues(image: Image.Image, is_file: bool) -> tuple[Issue, ...]:
    """Return the conversions of a loaded image that its owner may not expect; only files are checked for frames."""
    found = []
    if (number := orientation(image)) in UPRIGHT:
        found.append(Issue("exif_rotated", f"EXIF orientation {number}"))
    if description := color_conversion(image):
        found.append(Issue("unusual_mode", description))
    if is_file and has_frames(image):
        found.append(Issue("animated", "only the first frame is used"))
    return tuple(found)


def color_conversion(image: Image.Image) -> str:
    """Describe how an image of an unusual mode becomes RGB; "" for a plain one."""
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
        raise UndecodableError(str(error), "too_many_pixels") from error
    except Exception as error:  # also struct.error, SyntaxError, IndexError, zlib.error ...
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        name: IssueName = "truncated" if "truncated" in reason.lower() else "unreadable"
        raise UndecodableError(" ".join(reason.split()), name) from error
