"""Labels of two stores on one scale."""

import numpy as np
import torch

from limbeck.core.errors import UserError
from limbeck.data.store.store import Store
from limbeck.evaluate.scores import Labels


def matched_labels(train: Store, test: Store) -> Labels:
    """Labels as indices into `train.label_names`; stores may list the same names in another order.

    Raises UserError when a store has unlabelled rows, when a name is in one store only, or when there is one class.
    """
    for role, store in (("train", train), ("test", test)):
        if not store.labeled:
            raise UserError(
                f"the {role} images{_where(store)} are not all labelled, and k-NN and linear probes need labels: "
                "put each class in a sub-folder of its own"
            )
    only_train = sorted(set(train.label_names) - set(test.label_names))
    only_test = sorted(set(test.label_names) - set(train.label_names))
    if only_train or only_test:
        raise UserError(f"train and test must have the same labels, but {_difference(only_train, only_test)}")
    if len(train.label_names) < 2:
        raise UserError(f"a probe needs at least two classes, and the only label is '{train.label_names[0]}'")
    position = {name: index for index, name in enumerate(train.label_names)}
    to_train = np.array([position[name] for name in test.label_names])
    train_labels, test_labels = np.array(train.labels), to_train[test.labels]
    return Labels(torch.from_numpy(train_labels), torch.from_numpy(test_labels), len(position))


def _difference(only_train: list[str], only_test: list[str]) -> str:
    sides = (("train", only_train), ("test", only_test))
    return " and ".join(f"only {side} has {_listing(names)}" for side, names in sides if names)


def _listing(names: list[str], most: int = 10) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _where(store: Store) -> str:
    return f" in {store.path}" if store.path else ""
