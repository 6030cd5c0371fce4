"""Masks of images: indexed PNG files with the names of the images, brought to the square of a store."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from limbeck.core.errors import UserError
from limbeck.data.store.store import Store, read_paths

Masks = NDArray[np.uint8]
"""[N S S], the class of every pixel."""
IGNORED = 255  # value of a pixel that does not count


class MaskPair(NamedTuple):
    """Masks of training and test images."""

    train: Masks
    test: Masks
    classes: int

    @classmethod
    def read(cls, train: tuple[Path, Store], test: tuple[Path, Store]) -> Self:
        """Read the masks of two stores from their folders; raise UserError for classes that do not fit, too."""
        first, second = (read_masks(*role) for role in (train, test))
        known, there = (np.unique(masks[masks != IGNORED]).tolist() for masks in (first, second))
        if not known or not there:
            folder = (train if not known else test)[0]
            raise UserError(f"the masks in '{folder}' have no class: every pixel is {IGNORED}", code="no-classes")
        if len(known) == 1:
            ignored = f", and pixels of {IGNORED}, which do not count" if (first == IGNORED).any() else ""
            raise UserError(
                f"the masks in '{train[0]}' have the class {known[0]} alone{ignored}: number the classes 0, 1 ..., so "
                "that there are two to tell apart",
                code="one-class",
            )
        if unknown := sorted({*there} - {*known}):
            raise UserError(
                f"test masks have the class {unknown[0]}, and no training mask has it (their classes are "
                f"{_listing(known)})",
                code="labels-differ",
            )
        return cls(first, second, known[-1] + 1)


def read_masks(folder: Path, store: Store) -> Masks:
    """Return the masks of all images of a store, from `folder`/PATH of the image with the ending .png.

    Raises:
        UserError: the folder or a mask is missing; or a mask is no image of one channel of 8 bits, or has another size
            than its image.
    """
    if not folder.is_dir():
        raise UserError(f"the folder of masks '{folder}' does not exist", code="no-mask")
    paths = read_paths(store)
    found = np.empty((len(store), store.size, store.size), np.uint8)
    for row, path in enumerate(paths):
        size = int(store.widths[row]), int(store.heights[row])
        found[row] = _read(folder / Path(path).with_suffix(".png"), path, size, store.size)
    return found


def _read(file: Path, path: str, size: tuple[int, int], side: int) -> Masks:
    return np.asarray(open_mask(file, path, size).resize((side, side), Image.Resampling.NEAREST), np.uint8)


def open_mask(file: Path, path: str, size: tuple[int, int]) -> Image.Image:
    """Return the mask in a file, one channel of 8 bits; raise UserError as `read_masks`.

    Args:
        file: the mask.
        path: its image, for messages.
        size: width and height of the image.
    """
    try:
        with Image.open(file) as mask:
            mask.load()
    except FileNotFoundError as error:
        raise UserError(f"'{path}' has no mask: '{file}' is not there", code="no-mask") from error
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"'{file}' cannot be read as an image: {error}", code="not-a-mask") from error
    if mask.mode not in ("L", "P", "1"):
        raise UserError(
            f"'{file}' has the mode {mask.mode}: a mask has one channel of 8 bits, with the class of every pixel",
            code="not-a-mask",
        )
    if mask.size != size:
        raise UserError(
            f"the mask '{file}' has {mask.width} x {mask.height} pixels and its image {size[0]} x {size[1]}: they must "
            "agree",
            code="mask-size",
        )
    return Image.fromarray(np.asarray(mask, np.uint8)) if mask.mode == "1" else mask  # 0 and 1, not 0 and 255


def _listing(values: Sequence[int]) -> str:
    return f"{values[0]} to {values[-1]}" if len(values) > 3 else ", ".join(map(str, values))
