"""Labels of two stores on one scale, or one sentence that says why not."""

import numpy as np

from limbeck.data.store.store import Store
from limbeck.evaluation.labels import match_labels
from tests.helpers.errors import raises


def store(labels: list[int] | None, names: list[str]) -> Store:
    """Black images with these labels."""
    count = 4 if labels is None else len(labels)
    return Store.from_arrays(np.zeros((count, 8, 8, 3), np.uint8), labels, names)


def test_names_decide_not_their_order() -> None:
    labels = match_labels(store([0, 1, 2, 2], ["ant", "bee", "cow"]), store([0, 0, 1, 2], ["cow", "ant", "bee"]))
    assert labels.classes == 3
    assert labels.train.tolist() == [0, 1, 2, 2]
    assert labels.test.tolist() == [2, 2, 0, 1]


def test_a_label_that_no_training_image_has_is_named() -> None:
    with raises("labels-differ", "'cow', 'dog'", "'ant', 'bee'"):
        match_labels(store([0, 1], ["ant", "bee"]), store([0, 1, 2], ["ant", "cow", "dog"]))
    with raises("labels-differ", "'cow'"):  # a name without images is not enough
        match_labels(store([0, 1], ["ant", "bee", "cow"]), store([0, 2], ["ant", "bee", "cow"]))


def test_labels_without_images_do_not_matter() -> None:
    labels = match_labels(store([0, 2, 2], ["ant", "bee", "cow"]), store([1, 1], ["dog", "cow"]))
    assert (labels.train.tolist(), labels.test.tolist()) == ([0, 2, 2], [2, 2])


def test_composed_and_decomposed_names_are_one() -> None:
    labels = match_labels(store([0, 1], ["ant", "caf\u00e9"]), store([0, 1], ["cafe\u0301", "ant"]))
    assert labels.test.tolist() == [1, 0]


def test_a_long_difference_is_cut_short() -> None:
    names = [f"n{i:02}" for i in range(15)]
    with raises("labels-differ", "'n11'", "3 more") as caught:
        match_labels(store([0, 1], names[:2]), store(list(range(15)), names))
    assert "'n12'" not in str(caught.value)


def test_one_unlabeled_store_is_a_mistake() -> None:
    labeled, unlabeled = store([0, 1], ["ant", "bee"]), store(None, [])
    with raises("images-not-labeled", "test"):
        match_labels(labeled, unlabeled)
    with raises("images-not-labeled", "train"):
        match_labels(unlabeled, labeled)


def test_one_class_cannot_be_probed() -> None:
    for names in (["ant"], ["ant", "bee"]):
        with raises("one-class", "'ant'"):
            match_labels(store([0, 0], names), store([0], ["ant"]))
