"""TS2Vec's protocols give the predictions of its authors' code."""

from collections.abc import Callable

import pytest
import torch

from limbeck.classification import series_protocols
from limbeck.classification.series_protocols import C_GRID, nearest_row, one_vs_rest, support_vectors
from tests.helpers.golden import Golden


def test_predictions_are_those_of_the_authors(golden: Callable[[str], Golden], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_protocols, "C_GRID", C_GRID[:6])  # up to 10: what is above takes seconds and loses
    numbers = golden("series_protocols")
    train, labels, test, truth = (
        torch.from_numpy(numbers[key]) for key in ("train", "train_labels", "test", "test_labels")
    )
    assert support_vectors(train, labels, test).tolist() == numbers["svm_predicted"].tolist()
    assert support_vectors(train[:30], labels[:30], test).tolist() == numbers["svm_of_first_30_predicted"].tolist()
    assert nearest_row(train, labels, test).tolist() == numbers["one_nn_predicted"].tolist()
    found = one_vs_rest(train, labels, test)
    assert found.tolist() == numbers["linear_probabilities"].argmax(axis=1).tolist()
    assert (found == truth).double().mean().item() == pytest.approx(float(numbers["linear_accuracy"]))
