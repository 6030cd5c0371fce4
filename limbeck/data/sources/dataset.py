"""Map-style data sets: torchvision's, PyTorch's, and lists of images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from limbeck.core.errors import UserError
from limbeck.data.decode import Content, UndecodableError, pillow_errors
from limbeck.data.sources.arrays import is_arrays
from limbeck.data.sources.base import ImageSource, Sample, SourceType
from limbeck.data.sources.hub import is_hub_object
from limbeck.data.sources.labels import IMAGE_NAMES, LABEL_NAMES, ClassReader, pick


@runtime_checkable
class MapDataset(Protocol):
    """Protocol of PyTorch's map-style data sets; a list of images is one, too."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


def is_dataset(value: Any) -> bool:
    """Return whether a value has a length and items by number, and is not something else that has."""
    others = isinstance(value, dict | bytes | str) or is_arrays(value) or is_hub_object(value)
    return isinstance(value, MapDataset) and not others


def open_dataset(dataset: MapDataset) -> ImageSource:
    """Return the samples of a map-style data set, read by the calling thread, since few data sets are thread-safe.

    An item is an image, (image, label, ...) or a mapping with keys such as 'image' and 'label'; an image is PIL's, an
    array [H W C], or a tensor [C H W] as torchvision makes it. Names of the labels: see `class_names`.
    """
    classes = ClassReader(class_names(dataset))

    def every_nth(step: int) -> Iterator[Sample]:
        return (dataset_sample(dataset, row, classes) for row in range(0, len(dataset), step))

    return ImageSource(
        name=type(dataset).__name__,
        samples=lambda: every_nth(1),
        count=len(dataset),
        paths=lambda: map(str, range(len(dataset))),
        label_names=classes.names,
        label_origin="the items of the data set",
        label_problems=classes.problems,
        every_nth=every_nth,
    )


def class_names(dataset: Any) -> list[str]:
    """Return the names of the labels: torchvision's `classes`, also below a Subset and in the parts of a ConcatDataset.

    Raises:
        UserError: the parts name their classes differently.
    """
    names = getattr(dataset, "classes", None) or getattr(dataset, "class_to_idx", None)
    if isinstance(names, Mapping):
        names = sorted(names, key=names.__getitem__)
    if isinstance(names, Sequence) and not isinstance(names, str):
        return [", ".join(name) if isinstance(name, tuple) else str(name) for name in names]
    if (inner := getattr(dataset, "dataset", None)) is not None:
        return class_names(inner)
    found = [class_names(part) for part in getattr(dataset, "datasets", ())]
    if any(names != found[0] for names in found):
        raise UserError(
            f"the parts of a {type(dataset).__name__} name their classes differently: {found[0][:3]} and "
            f"{next(names for names in found if names != found[0])[:3]}; give them one by one",
            code="labels-differ",
        )
    return found[0] if found else []


def dataset_sample(dataset: MapDataset, row: int, classes: ClassReader) -> Sample:
    """Return one sample; an error of the data set becomes the reason why it is skipped."""
    try:
        with pillow_errors():
            image, label = image_and_label(dataset[row])
            content = image_content(image)
    except UndecodableError as error:
        return Sample(str(row), error)
    return Sample(str(row), content, classes.number(label))


def image_and_label(item: Any) -> tuple[Any, Any]:
    """Split an item into image and label; None without a label."""
    if isinstance(item, Mapping):
        image, label = (pick(map(str, item), names) for names in (IMAGE_NAMES, LABEL_NAMES))
        if image is None:
            raise UndecodableError(f"none of the keys {', '.join(map(str, item))} is called image or the like")
        return item[image], item.get(label)
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def image_content(image: Any) -> Content:
    """Return an image as `decode` takes it; tensors become arrays with their channels last."""
    from torch import Tensor

    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        return array.transpose(1, 2, 0) if array.ndim == 3 else array
    if isinstance(image, Image.Image | np.ndarray):
        return image
    raise UndecodableError(f"a {type(image).__name__} is not an image")


SOURCE = SourceType(description="", objects="a map-style data set", accepts=is_dataset, open_value=open_dataset)
