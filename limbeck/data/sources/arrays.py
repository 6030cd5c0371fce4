"""Images that are in Python already: numpy arrays, .npy and .npz files, map-style data sets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from limbeck.core.errors import UserError, one_line
from limbeck.data.decode import Content, UndecodableError, decoding
from limbeck.data.fingerprint import FileState, file_state, state_fingerprint
from limbeck.data.sources.base import Item, Rows


@runtime_checkable
class MapDataset(Protocol):
    """What torch calls a map-style data set; a list of images is one, too."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


def array_rows(images: NDArray[Any], labels: ArrayLike | None, name: str, file: FileState | None = None) -> Rows:
    """Rows of [N H W] or [N H W C]; UserError when the shape is another or labels are not one integer per image."""
    if images.ndim not in (3, 4):
        raise UserError(f"'{name}' has shape {images.shape}, not [N H W] or [N H W C]")
    classes = np.full(len(images), -1) if labels is None else np.asarray(labels)
    if classes.shape != (len(images),) or classes.dtype.kind not in "iu":
        raise UserError(f"'{name}' has {len(images)} images and {classes.dtype} labels of shape {classes.shape}")

    def spread(step: int) -> Iterator[Item]:
        return (Item(str(row), np.asarray(images[row]), int(classes[row])) for row in range(0, len(images), step))

    files = [] if file is None else [file]
    return Rows(
        name=name,
        items=lambda: spread(1),
        count=len(images),
        fingerprint=state_fingerprint(files) if files else None,
        files=lambda: iter(files),
        spread=spread,
    )


def array_file_rows(path: Path) -> Rows:
    """A .npy file (mapped, not read), or a .npz file with `images` and, if there are any, `labels`."""
    try:
        if path.suffix.lower() == ".npy":
            arrays = {"images": np.lib.format.open_memmap(path, mode="r")}
        else:
            with path.open("rb") as file:
                arrays = dict(np.load(file, allow_pickle=False))
    except Exception as error:  # zip and array headers that are broken raise a dozen kinds, MemoryError among them
        raise UserError(f"'{path}' cannot be read as an array: {one_line(error)}") from error
    if "images" not in arrays:
        raise UserError(f"'{path}' holds {', '.join(arrays) or 'nothing'}: an array named 'images' is needed")
    return array_rows(arrays["images"], arrays.get("labels"), str(path), file_state(path))


def dataset_rows(dataset: MapDataset) -> Rows:
    """Rows of a map-style data set, read one after the other by the calling thread (few data sets are thread-safe).

    A row is an image, (image, label, ...) or {'image': ..., 'label': ...}; an image is PIL's, an array [H W C], or a
    tensor [C H W] as torchvision makes it. `dataset.classes`, torchvision's convention, names the labels.
    """

    def spread(step: int) -> Iterator[Item]:
        return (dataset_item(dataset, row) for row in range(0, len(dataset), step))

    return Rows(
        name=type(dataset).__name__,
        items=lambda: spread(1),
        count=len(dataset),
        label_names=[str(name) for name in getattr(dataset, "classes", ())],
        spread=spread,
    )


def dataset_item(dataset: MapDataset, row: int) -> Item:
    """One row; what the data set raises becomes the reason for skipping it."""
    try:
        with decoding():
            image, label = image_and_label(dataset[row])
            return Item(str(row), image_content(image), label)
    except UndecodableError as error:
        return Item(str(row), error)


def image_and_label(row: Any) -> tuple[Any, int]:
    """The two parts of a row; a label that is not one integer counts as none."""
    if isinstance(row, Mapping):
        image, label = row.get("image"), row.get("label")
    elif isinstance(row, tuple | list):
        image, label = row[0], row[1] if len(row) > 1 else None
    else:
        image, label = row, None
    number = np.asarray(-1 if isinstance(label, str | Mapping) or label is None else label)
    return image, int(number) if number.ndim == 0 and number.dtype.kind in "iu" else -1


def image_content(image: Any) -> Content:
    """What `decode` understands; tensors become arrays with their channels last."""
    from torch import Tensor

    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        return array.transpose(1, 2, 0) if array.ndim == 3 else array
    if isinstance(image, Image.Image | np.ndarray):
        return image
    raise UndecodableError(f"a {type(image).__name__} is not an image")
