"""Videos whose objects are masked in every frame: a folder of frames and a folder of masks, as DAVIS has them."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from PIL import Image, UnidentifiedImageError

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.masks import IGNORED, Masks, open_mask
from limbeck.data.sources.names import has_image_suffix
from limbeck.data.store.layout import Pixels

LAYOUTS = (("JPEGImages/480p", "Annotations/480p"), ("JPEGImages", "Annotations"), ("frames", "masks"))
"""Folders of frames and of masks below the folder of a data set; the first one that is there counts."""
FEWEST = 3  # frames of a video: the first has the objects, and the last one is not scored


class Video(NamedTuple):
    """A video; frame and mask of a moment have one name."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    size: tuple[int, int]
    """Width and height of every frame."""
    objects: int
    """The largest number of an object in the first mask; 0 is the background."""

    @classmethod
    def open(cls, frames: Path, masks: Path) -> Self:
        """Return the video of a folder of frames and one of masks.

        Raises:
            UserError: there are fewer than three frames; a frame cannot be read; a mask is missing, is no image of one
                channel of 8 bits, or has another size than its frame; frames differ in size; or the first mask has no
                object.
        """
        files = tuple(sorted(file for file in frames.iterdir() if has_image_suffix(file.name)))
        if len(files) < FEWEST:
            raise UserError(
                f"the video '{frames}' has {plural(len(files), 'frame')}: it needs at least {FEWEST}",
                code="too-few-frames",
            )
        size, *others = [_open(file).size for file in files]
        if other := next((other for other in others if other != size), None):
            raise UserError(
                f"the frames of the video '{frames}' have {size[0]} x {size[1]} and {other[0]} x {other[1]} pixels: "
                "all must have one size",
                code="frame-size",
            )
        found = cls(frames.name, files, tuple(masks / f"{file.stem}.png" for file in files), size, 0)
        first, *_ = [found.mask(index) for index in range(len(files))]
        objects = int(first[first != IGNORED].max(initial=0))
        if not objects:
            ignored = f" or {IGNORED}, which does not count" if (first == IGNORED).any() else ""
            raise UserError(
                f"the first mask '{found.masks[0]}' has no object: every pixel is 0{ignored}; number the objects from "
                "1",
                code="no-classes",
            )
        return found._replace(objects=objects)

    def frame(self, index: int) -> Pixels:
        """Return a frame, uint8 [H W 3]."""
        return np.array(_open(self.frames[index]).convert("RGB"))

    def mask(self, index: int) -> Masks:
        """Return the number of the object at every pixel of a frame, uint8 [H W]; 255 does not count."""
        return np.array(open_mask(self.masks[index], str(self.frames[index]), self.size), np.uint8)


def open_videos(folder: Path) -> tuple[Video, ...]:
    """Return the videos of a folder by name, all of their masks read once.

    Raises:
        UserError: the folder has none of the layouts or no video; or as `Video.open`.
    """
    layout = next(((a, b) for a, b in LAYOUTS if (folder / a).is_dir()), None)
    if layout is None:
        choices = " or ".join(f"{frames}/VIDEO and {masks}/VIDEO" for frames, masks in LAYOUTS)
        raise UserError(f"'{folder}' has no videos: it needs the folders {choices}", code="no-videos")
    frames, masks = (folder / part for part in layout)
    found = tuple(Video.open(video, masks / video.name) for video in _folders(frames))
    if not found:
        raise UserError(f"'{frames}' has no videos: each is a folder of frames", code="no-videos")
    return found


def _folders(folder: Path) -> Iterator[Path]:
    return iter(sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def _open(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"the frame '{file}' cannot be read as an image: {error}", code="unreadable-frame") from error
    return image
