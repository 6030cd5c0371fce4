"""Images in numpy arrays: in memory, in .npy and in .npz files."""

import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.core.errors import UserError, one_line
from limbeck.core.maps import map_array
from limbeck.core.text import format_bytes, plural
from limbeck.data.check.issues import Issue
from limbeck.data.fingerprint import FileState, file_state, state_fingerprint
from limbeck.data.pixel_range import PixelRange
from limbeck.data.sources.base import ImageSource, Sample, SourceType
from limbeck.data.sources.labels import IMAGE_NAMES, LABEL_NAMES, classify, pick

ARRAY_NAMES = (*IMAGE_NAMES, "x", "data")
BLOCK = 256  # images looked through at a time


def open_array_file(files: Sequence[Path], name: str) -> ImageSource:
    """Open a .npy file (mapped, not read), or a .npz file with `images` and, if there are any, `labels`."""
    (path,) = files
    try:
        if path.suffix.lower() == ".npy":
            arrays = {"images": map_array(path)}
        else:
            _check_unpacked(path)
            with path.open("rb") as file:
                arrays = dict(np.load(file, allow_pickle=False))
    except Exception as error:  # broken zip files and array headers raise a dozen kinds, MemoryError among them
        raise UserError(f"'{path}' cannot be read as an array ({_reason(error)})", code="bad-array-file") from error
    images, labels = pick(arrays, ARRAY_NAMES), pick(arrays, LABEL_NAMES)
    if images is None:
        raise UserError(
            f"'{path}' holds {', '.join(arrays) or 'nothing'}: an array named 'images' is needed", code="no-images"
        )
    origin = f"'{labels}' in the file" if labels else ""
    return array_source(arrays[images], labels and arrays[labels], name, file_state(path), origin)


def _reason(error: Exception) -> str:
    """Return why numpy refuses a file, without its advice to trust it."""
    text = one_line(error).partition(". ")[0].removesuffix(".")
    objects = "object" in text.lower() or "pickle" in text.lower()
    return "it holds Python objects: save numbers, or words as strings" if objects else text


def _check_unpacked(path: Path) -> None:
    """Raise MemoryError where the arrays of a .npz file are larger than the memory of the machine."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if hasattr(os, "sysconf") and unpacked > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise MemoryError(f"unpacked it has {format_bytes(unpacked)}, more than this machine's memory: save .npy files")


def open_arrays(value: NDArray[Any] | tuple[NDArray[Any], ArrayLike]) -> ImageSource:
    """Open images, or a pair (images, labels), that are in memory."""
    images, labels = value if isinstance(value, tuple) else (value, None)
    return array_source(images, labels, "array")


def is_arrays(value: Any) -> bool:
    """Return whether a value is an array or a pair whose first part is one."""
    return isinstance(value, np.ndarray) or (
        isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], np.ndarray)
    )


def array_source(
    images: NDArray[Any], labels: ArrayLike | None, name: str, file: FileState | None = None, origin: str = "the labels"
) -> ImageSource:
    """Return the samples of images [N H W] or [N H W C] and labels [N]; UserError for other shapes."""
    if images.ndim not in (3, 4):
        raise UserError(f"'{name}' has shape {images.shape}, not [N H W] or [N H W C]", code="bad-image-shape")
    classes = classify(repeat(None, len(images)) if labels is None else label_rows(labels, len(images), name))
    if labels is None:
        classes.problems["the arrays hold none"] = len(images)

    values = range_of(images)

    def every_nth(step: int) -> Iterator[Sample]:
        rows = range(0, len(images), step)
        return (array_sample(str(row), images[row], int(classes.numbers[row]), values) for row in rows)

    files = [] if file is None else [file]
    return ImageSource(
        name=name,
        samples=lambda: every_nth(1),
        count=len(images),
        paths=lambda: map(str, range(len(images))),
        label_names=classes.names,
        label_origin=origin,
        label_problems=classes.problems,
        fingerprint=state_fingerprint(files) if files else None,
        files=lambda: iter(files),
        every_nth=every_nth,
    )


def range_of(images: NDArray[Any]) -> PixelRange | None:
    """Return the range that all images together span; None for 8-bit ones, and where no pixel is a finite number."""
    if images.dtype in (np.uint8, np.bool_) or images.dtype.kind not in "iuf":
        return None
    low, high = math.inf, -math.inf
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        finite = block[np.isfinite(block)]
        if finite.size:
            low, high = min(low, finite.min().item()), max(high, finite.max().item())
    return PixelRange.between(low, high) if low <= high else None


def array_sample(path: str, image: NDArray[Any], label: int, values: PixelRange | None) -> Sample:
    """Return an image as a sample, scaled by the range of all images, so that a dark one stays dark."""
    if values is None or not np.isfinite(image).all():
        return Sample(path, np.asarray(image), label)
    return Sample(path, values.scale(image), label, (Issue("unusual_mode", values.description),))


def label_rows(labels: ArrayLike, count: int, name: str) -> NDArray[Any]:
    """Return labels [N] or [N 1] as [N]; UserError where they are not one for each image."""
    rows = np.asarray(labels)
    if rows.shape not in ((count,), (count, 1)):
        raise UserError(
            f"'{name}' has {plural(count, 'image')} and {rows.dtype} labels of shape {rows.shape}: give one label "
            "per image",
            code="bad-labels",
        )
    return rows.reshape(count)


SOURCE = SourceType(
    description="a .npz or .npy file",
    objects="numpy arrays",
    suffixes=(".npz", ".npy"),
    open_files=open_array_file,
    several_files=False,
    accepts=is_arrays,
    open_value=open_arrays,
)
