"""The file formats that this installation decodes, with optional plug-ins of Pillow, and what to install for others."""

from contextlib import suppress
from functools import cache
from importlib import import_module

from PIL import Image

# An explicit list, because Pillow would pass PostScript to an interpreter; HEIF and JXL need a plug-in.
FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF", "HEIF", "JXL", "ICO", "QOI",
)  # fmt: skip
PLUGINS = {"pillow_heif": "register_heif_opener", "pillow_jxl": ""}
"""Module -> the function that registers its formats; "" where importing it does that."""
_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"mif1": "HEIF",
    b"msf1": "HEIF", b"avif": "AVIF", b"avis": "AVIF",
}  # fmt: skip
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")


@cache
def readable_formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that Pillow and its installed plug-ins can read."""
    Image.init()
    for name, function in PLUGINS.items():
        with suppress(ImportError, OSError):
            module = import_module(name)
            if function:
                getattr(module, function)()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def plugin_advice(data: bytes) -> str:
    """Return which package reads an image that Pillow does not recognize; "" for other content."""
    kind = _BRANDS.get(data[8:12], "") if data[4:8] == b"ftyp" else "JPEG XL" if data.startswith(_JXL) else ""
    return f"a {kind} file, which needs a plug-in: pip install 'limbeck[heif]'" if kind else ""
