"""Subsets of labels: nested, stratified, a function of seed and row alone."""

import numpy as np

from limbeck.data.subsets import label_subset


def test_subsets_are_nested_stratified_and_seeded() -> None:
    labels = np.random.default_rng(0).choice([0, 1, 2, 4], 500, p=[0.6, 0.3, 0.098, 0.002])
    labels[-1], labels[7] = 4, -1
    before: set[int] = set()
    for share in (0.01, 0.07, 0.1, 0.5, 1.0):
        rows = label_subset(labels, share)
        assert before <= {*rows.tolist()}
        before = {*rows.tolist()}
        for label in (0, 1, 2, 4):
            count = int((labels == label).sum())
            assert (labels[rows] == label).sum() == -(-round(1000 * share) * count // 1000), "the ceiling"
    assert before == {*np.flatnonzero(labels >= 0).tolist()}
    assert not np.array_equal(label_subset(labels, 0.1), label_subset(labels, 0.1, seed=1))


def test_labels_of_other_classes_do_not_matter() -> None:
    labels = np.arange(60) % 3
    other = np.where(labels == 2, -1, labels)
    rows = label_subset(labels, 0.2)
    np.testing.assert_array_equal(rows[labels[rows] != 2], label_subset(other, 0.2))
