"""The labels of a source that are known without decoding an image: those of stores and of folders."""

from pathlib import Path

import numpy as np

from limbeck.core.types import Dataset
from limbeck.data.sources.folder import open_folder
from limbeck.data.sources.open import Source
from limbeck.data.sources.selection import Selection
from limbeck.data.store.layout import is_store
from limbeck.data.store.store import Store


def known_labels(source: Source, selection: Selection) -> set[str] | None:
    """Return the names of the labels of all images; none unless every image has one; None where it is not known.

    Files of other kinds have to be read to tell, and a folder may have images that cannot be used.
    """
    path = Path(source).expanduser() if isinstance(source, str | Path) else None
    if path is None or not path.is_dir():
        return None
    if is_store(path):
        return labels_in_use(Store.open(path))
    images = open_folder(path, selection.excluded)
    labels = {sample.label for sample in images.samples()}
    if not labels:
        return None
    return set() if min(labels) < 0 else {images.label_names[label] for label in labels}


def labels_in_use(store: Dataset) -> set[str]:
    """Return the names of the labels that images of a store have; none unless every image has one."""
    return {store.label_names[label] for label in np.unique(store.labels)} if store.labeled else set()
