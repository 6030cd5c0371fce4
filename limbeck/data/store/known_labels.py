"""The labels of a source that are known without decoding an image: those of stores and of folders.

Images in a single folder have no labels, since it may be any folder; where other images have a class of its name, they
are of that class.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from limbeck.core.types import Dataset
from limbeck.data.sources.folder import open_folder
from limbeck.data.sources.folder_classes import find_classes
from limbeck.data.sources.labels import class_name
from limbeck.data.sources.open import Source
from limbeck.data.sources.selection import Selection
from limbeck.data.store.layout import is_store
from limbeck.data.store.store import Store, read_paths


def known_labels(source: Source, selection: Selection, others: Collection[str] = ()) -> set[str] | None:
    """Return the names of the labels of all images; none unless every image has one; None where it is not known.

    Files of other kinds have to be read to tell, and a folder may have images that cannot be used.

    Args:
        source: the images.
        selection: what is left out of them.
        others: classes of other images, of which these may all have one.
    """
    path = Path(source).expanduser() if isinstance(source, str | Path) else None
    if path is None or not path.is_dir():
        return None
    if is_store(path):
        return labels_in_use(of_one_class(Store.open(path), sorted(others)))
    images = open_folder(path, selection.excluded)
    labels = {sample.label for sample in images.samples()}
    if not labels:
        return None
    if labels == {-1} and (single := find_classes(s.path for s in images.samples()).single) in _composed(others):
        return {single}
    return set() if min(labels) < 0 else {images.label_names[label] for label in labels}


def of_one_class(store: Store, others: Sequence[str]) -> Store:
    """Return a store without labels, all of whose images are in a folder that has the name of a class, with that label.

    Args:
        store: the images; a store that has labels is returned as it is.
        others: classes of other images.
    """
    if store.path is None or (store.labels >= 0).any():
        return store
    single = find_classes(read_paths(store)).single
    if single not in _composed(others):
        return store
    return replace(store, labels=np.zeros(len(store), np.int64), label_names=[single], label_note="")


def _composed(classes: Collection[str]) -> set[str]:
    """Return names of classes in composed Unicode."""
    return {class_name(name) for name in classes}


def labels_in_use(store: Dataset) -> set[str]:
    """Return the names of the labels that images of a store have; none unless every image has one."""
    return {store.label_names[label] for label in np.unique(store.labels)} if store.labeled else set()
