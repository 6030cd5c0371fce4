"""Recognize images by their file names alone: one rule for folders, archives and tables."""

import os
import re
from collections.abc import Iterable

# fmt: off
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".hif", ".jxl", ".ico", ".qoi",
))
# fmt: on
SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"))
"""Folders in which macOS, Synology and Windows keep copies and thumbnails of images."""
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "unlabeled": "unlabeled",
    "unlabelled": "unlabeled",
}
_SPLIT = re.compile(rf"({'|'.join(_SPLITS)})(?:[-_ ]?(?:set|split|images?|imgs?|data|\d+))?", re.IGNORECASE)


def is_image(path: str) -> bool:
    """Return whether a file is to be decoded, by its path below the source."""
    return not why_ignored(path)


def why_ignored(path: str) -> str:
    """Return why a file is not taken for an image; "" where it is."""
    if reason := why_hidden(path):
        return reason
    return "" if has_image_suffix(path) else "no image's extension"


def why_hidden(path: str) -> str:
    """Return the reason where a path is hidden or belongs to an operating system, else ""."""
    for part in path.split("/"):
        if part.startswith(".") and part.strip("."):
            return "hidden"
        if part in SYSTEM_FOLDERS:
            return f"in '{part}', a folder of the operating system"
    return ""


def has_image_suffix(path: str) -> bool:
    """Return whether a path ends in the extension of an image, in any case."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def split_of(name: str) -> str | None:
    """Return 'train', 'val', 'test' or 'unlabeled' where a folder has the name of a split, such as `val2017`."""
    found = _SPLIT.fullmatch(name)
    return _SPLITS[found[1].lower()] if found else None


def splits_in(paths: Iterable[str]) -> list[str]:
    """Return the splits that files belong to, by the words of their paths, in alphabetical order."""
    words = {word for path in paths for word in re.split(r"[^A-Za-z]+", path)}
    return sorted({split for word in words if (split := _SPLITS.get(word.lower()))})
