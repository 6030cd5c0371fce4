"""Labels of a training and a test store, brought to the same class indices."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.text import first_names
from limbeck.data.store.store import Store

NAMES_SHOWN = 10


class Labels(NamedTuple):
    """Class indices of all images, int64."""

    train: Tensor  # [N]
    test: Tensor  # [M]
    classes: int


def match_labels(train: Store, test: Store) -> Labels:
    """Return labels as indices into `train.label_names`; the stores may list the same names in another order.

    Raises:
        UserError: a store has unlabeled images, a name occurs in one store only, or there is only one class.
    """
    for role, store in (("train", train), ("test", test)):
        if not store.labeled:
            raise UserError(
                f"the {role} images{_where(store)} are not all labeled, which k-NN and linear probes need; "
                "put each class into its own sub-folder",
                code="images-not-labeled",
            )
    _check_names(train, test)
    position = {name: index for index, name in enumerate(train.label_names)}
    to_train = np.array([position[name] for name in test.label_names])
    train_labels, test_labels = np.array(train.labels), to_train[test.labels]
    return Labels(torch.from_numpy(train_labels), torch.from_numpy(test_labels), len(position))


def _check_names(train: Store, test: Store) -> None:
    only_train = sorted(set(train.label_names) - set(test.label_names))
    only_test = sorted(set(test.label_names) - set(train.label_names))
    if only_train or only_test:
        raise UserError(
            f"train and test images must have the same labels, but {_difference(only_train, only_test)}",
            code="labels-differ",
        )
    found = np.unique(train.labels)
    if len(found) < 2:
        raise UserError(
            f"the training images{_where(train)} have one class, '{train.label_names[found[0]]}', and accuracies need "
            "two: add images of another class, or give images without labels for the metrics that need none",
            code="one-class",
        )


def _difference(only_train: list[str], only_test: list[str]) -> str:
    sides = (("train", only_train), ("test", only_test))
    return " and ".join(f"only {side} has {_listing(names)}" for side, names in sides if names)


def _listing(names: list[str]) -> str:
    return first_names([f"'{name}'" for name in names], NAMES_SHOWN)


def _where(store: Store) -> str:
    return f" in {store.path}" if store.path else ""
