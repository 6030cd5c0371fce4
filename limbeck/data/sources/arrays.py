"""Images in numpy arrays: in memory, in .npy and in .npz files."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.core.errors import UserError, one_line
from limbeck.data.fingerprint import FileState, file_state, state_fingerprint
from limbeck.data.sources.base import ImageSource, Sample, SourceType
from limbeck.data.sources.labels import IMAGE_NAMES, LABEL_NAMES, classify, pick

ARRAY_NAMES = (*IMAGE_NAMES, "x", "data")


def open_array_file(files: Sequence[Path], name: str) -> ImageSource:
    """Open a .npy file (mapped, not read), or a .npz file with `images` and, if there are any, `labels`."""
    (path,) = files
    try:
        if path.suffix.lower() == ".npy":
            arrays = {"images": np.lib.format.open_memmap(path, mode="r")}
        else:
            with path.open("rb") as file:
                arrays = dict(np.load(file, allow_pickle=False))
    except Exception as error:  # broken zip files and array headers raise a dozen kinds, MemoryError among them
        raise UserError(f"'{path}' cannot be read as an array ({one_line(error)})", code="bad-array-file") from error
    images, labels = pick(arrays, ARRAY_NAMES), pick(arrays, LABEL_NAMES)
    if images is None:
        raise UserError(
            f"'{path}' holds {', '.join(arrays) or 'nothing'}: an array named 'images' is needed", code="no-images"
        )
    origin = f"'{labels}' in the file" if labels else ""
    return array_source(arrays[images], labels and arrays[labels], name, file_state(path), origin)


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

    def every_nth(step: int) -> Iterator[Sample]:
        return (
            Sample(str(row), np.asarray(images[row]), int(classes.numbers[row])) for row in range(0, len(images), step)
        )

    files = [] if file is None else [file]
    return ImageSource(
        name=name,
        samples=lambda: every_nth(1),
        count=len(images),
        label_names=classes.names,
        label_origin=origin,
        label_problems=classes.problems,
        fingerprint=state_fingerprint(files) if files else None,
        files=lambda: iter(files),
        every_nth=every_nth,
    )


def label_rows(labels: ArrayLike, count: int, name: str) -> NDArray[Any]:
    """Return labels [N] or [N 1] as [N]; UserError where they are not one for each image."""
    rows = np.asarray(labels)
    if rows.shape not in ((count,), (count, 1)):
        raise UserError(
            f"'{name}' has {count} images and {rows.dtype} labels of shape {rows.shape}: give one label per image",
            code="bad-labels",
        )
    return rows.reshape(count)


SOURCE = SourceType(
    description="a .npz or .npy file, numpy arrays",
    suffixes=(".npz", ".npy"),
    open_files=open_array_file,
    several_files=False,
    accepts=is_arrays,
    open_value=open_arrays,
)
