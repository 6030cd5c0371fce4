"""Map-style data sets: torchvision's, PyTorch's, and lists of images."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from limbeck.data.decode import Content, UndecodableError, pillow_errors
from limbeck.data.sources.arrays import is_arrays
from limbeck.data.sources.base import ImageSource, Sample, SourceType


@runtime_checkable
class MapDataset(Protocol):
    """What PyTorch calls a map-style data set; a list of images is one, too."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


def is_dataset(value: Any) -> bool:
    """Return whether a value has a length and items by number, and is not something else that has."""
    return isinstance(value, MapDataset) and not isinstance(value, dict | bytes | str) and not is_arrays(value)


def open_dataset(dataset: MapDataset) -> ImageSource:
    """Return the samples of a map-style data set, read by the calling thread, since few data sets are thread-safe.

    An item is an image, (image, label, ...) or {'image': ..., 'label': ...}; an image is PIL's, an array [H W C], or a
    tensor [C H W] as torchvision makes it. `dataset.classes`, torchvision's convention, names the labels.
    """

    def every_nth(step: int) -> Iterator[Sample]:
        return (dataset_sample(dataset, row) for row in range(0, len(dataset), step))

    return ImageSource(
        name=type(dataset).__name__,
        samples=lambda: every_nth(1),
        count=len(dataset),
        label_names=[str(name) for name in getattr(dataset, "classes", ())],
        every_nth=every_nth,
    )


def dataset_sample(dataset: MapDataset, row: int) -> Sample:
    """Return one sample; an error of the data set becomes the reason why it is skipped."""
    try:
        with pillow_errors():
            image, label = image_and_label(dataset[row])
            return Sample(str(row), image_content(image), label)
    except UndecodableError as error:
        return Sample(str(row), error)


def image_and_label(item: Any) -> tuple[Any, int]:
    """Split an item; a label that is not one integer counts as none."""
    if isinstance(item, Mapping):
        image, label = item.get("image"), item.get("label")
    elif isinstance(item, tuple | list):
        image, label = item[0], item[1] if len(item) > 1 else None
    else:
        image, label = item, None
    number = np.asarray(-1 if isinstance(label, str | Mapping) or label is None else label)
    return image, int(number) if number.ndim == 0 and number.dtype.kind in "iu" else -1


def image_content(image: Any) -> Content:
    """Return an image as `decode` takes it; tensors become arrays with their channels last."""
    from torch import Tensor

    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        return array.transpose(1, 2, 0) if array.ndim == 3 else array
    if isinstance(image, Image.Image | np.ndarray):
        return image
    raise UndecodableError(f"a {type(image).__name__} is not an image")


SOURCE = SourceType(description="a map-style data set", accepts=is_dataset, open_value=open_dataset)
