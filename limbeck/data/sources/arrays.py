"""Images in numpy arrays: in memory, in .npy and in .npz files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.core.errors import UserError, one_line
from limbeck.data.fingerprint import FileState, file_state, state_fingerprint
from limbeck.data.sources.base import ImageSource, Sample, SourceType


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
    if "images" not in arrays:
        raise UserError(
            f"'{path}' holds {', '.join(arrays) or 'nothing'}: an array named 'images' is needed", code="no-images"
        )
    return array_source(arrays["images"], arrays.get("labels"), name, file_state(path))


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
    images: NDArray[Any], labels: ArrayLike | None, name: str, file: FileState | None = None
) -> ImageSource:
    """Return the samples of images [N H W] or [N H W C] and labels [N]; UserError for other shapes and types."""
    if images.ndim not in (3, 4):
        raise UserError(f"'{name}' has shape {images.shape}, not [N H W] or [N H W C]", code="bad-image-shape")
    classes = np.full(len(images), -1) if labels is None else np.asarray(labels)
    if classes.shape != (len(images),) or classes.dtype.kind not in "iu":
        raise UserError(
            f"'{name}' has {len(images)} images and {classes.dtype} labels of shape {classes.shape}: "
            "give one integer per image",
            code="bad-labels",
        )

    def every_nth(step: int) -> Iterator[Sample]:
        return (Sample(str(row), np.asarray(images[row]), int(classes[row])) for row in range(0, len(images), step))

    files = [] if file is None else [file]
    return ImageSource(
        name=name,
        samples=lambda: every_nth(1),
        count=len(images),
        fingerprint=state_fingerprint(files) if files else None,
        files=lambda: iter(files),
        every_nth=every_nth,
    )


SOURCE = SourceType(
    description="a .npz or .npy file, numpy arrays",
    suffixes=(".npz", ".npy"),
    open_files=open_array_file,
    several_files=False,
    accepts=is_arrays,
    open_value=open_arrays,
)
