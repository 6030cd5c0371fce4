"""Labels of a training and a test store, brought to the same class indices."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.text import first_names
from limbeck.core.types import Dataset
from limbeck.data.sources.labels import class_name
from limbeck.data.store.known_labels import labels_in_use
from limbeck.data.store.open import source_name

NAMES_SHOWN = 10


class Labels(NamedTuple):
    """Class indices of all images, int64."""

    train: Tensor  # [N]
    test: Tensor  # [M]
    classes: int


def match_labels(train: Dataset, test: Dataset) -> Labels:
    """Return labels as indices into `train.label_names`; the stores may list the names in another order.

    Only labels of images count: a class without images may be in either list. Names are compared in composed Unicode,
    since macOS writes decomposed ones.

    Raises:
        UserError: a store has unlabeled images, no training image has the label of a test image, or the training
            images are of one class.
    """
    for role, store in (("train", train), ("test", test)):
        if not store.labeled:
            raise not_labeled(role, _where(store))
    names = [class_name(name) for name in train.label_names]
    position = {name: index for index, name in reversed(list(enumerate(names)))}
    check_names(labels_in_use(train), labels_in_use(test))
    to_train = [np.array([position.get(class_name(name), -1) for name in store.label_names]) for store in (train, test)]
    train_labels, test_labels = to_train[0][train.labels], to_train[1][test.labels]
    return Labels(torch.from_numpy(train_labels), torch.from_numpy(test_labels), len(names))


def not_labeled(role: str, where: str) -> UserError:
    """Return the error for training or test images without labels."""
    return UserError(
        f"the {role} images{where} are not all labeled, which accuracies need; put each class into its own "
        "sub-folder, two at least",
        code="images-not-labeled",
    )


def check_names(train: set[str], test: set[str]) -> None:
    """Raise UserError unless every label of a test image occurs among the training images, which have two or more."""
    train, test = ({class_name(name) for name in names} for names in (train, test))
    if only_test := sorted(test - train):
        raise UserError(
            f"no training image has the label {_listing(only_test)}, which test images have; the training images have "
            f"{_listing(sorted(train))}",
            code="labels-differ",
        )
    if len(train) < 2:
        raise UserError(
            f"all training images are labeled {_listing(sorted(train))}, and accuracies need two classes: add images "
            "of another class, or give images without labels for the metrics that need none",
            code="one-class",
        )


def _listing(names: list[str]) -> str:
    return first_names([f"'{name}'" for name in names], NAMES_SHOWN)


def _where(store: Dataset) -> str:
    return f" in {source_name(store.path)}" if store.path else ""
