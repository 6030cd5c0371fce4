"""Thumbnails: as JPEG, and as data URIs for pages that are one file."""

import io
from base64 import b64encode

from PIL import Image

from limbeck.data.store.layout import Pixels

QUALITY = 82  # of the JPEG


def thumbnail(pixels: Pixels, width: int, height: int, side: int) -> str:
    """Return the stored image in the proportions of the original; its longer side has `side` pixels."""
    return _uri(jpeg(pixels, width, height, side))


def jpeg(pixels: Pixels, width: int, height: int, side: int) -> bytes:
    """Return the same as the bytes of a JPEG file."""
    scale = side / max(width, height)
    return _encode(Image.fromarray(pixels).resize((max(1, round(width * scale)), max(1, round(height * scale)))))


def data_uri(pixels: Pixels, side: int) -> str:
    """Return pixels [H W 3] as they are, or scaled down to `side` pixels if they are larger."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    return _uri(_encode(image))


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _uri(content: bytes) -> str:
    return f"data:image/jpeg;base64,{b64encode(content).decode()}"
