"""Early exits against the definitions, and where an image leaves at the limits."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from limbeck.metrics.early_exit import cheapest_threshold, exit_by_confidence, exit_by_patience, measure_exits
from tests.helpers.golden import Golden, assert_allclose


def test_exits_by_confidence_and_patience(golden: Callable[[str], Golden]) -> None:
    truth = golden("early_exit")
    confidences, predicted = torch.from_numpy(truth["logits"]).softmax(dim=2).max(dim=2)
    labels, costs = torch.from_numpy(truth["labels"]), torch.from_numpy(truth["cost"])
    rules = [(exit_by_confidence(confidences, t), "", i) for i, t in enumerate(truth["thresholds"].tolist())]
    rules += [(exit_by_patience(predicted, p), "patience_", i) for i, p in enumerate(truth["patience"].tolist())]
    for exits, name, i in rules:
        found = measure_exits(exits, predicted, labels, costs)
        expected = truth["patience_exit" if name else "exit_layer"][i]
        np.testing.assert_array_equal(exits, expected)
        assert_allclose(found.accuracy, truth[f"{name}accuracy"][i], rtol=1e-12)
        assert_allclose(found.cost, truth["patience_cost" if name else "mean_cost"][i], rtol=1e-7)
        np.testing.assert_allclose(found.shares, np.bincount(expected, minlength=4) / 40)


def test_the_threshold_is_the_smallest_that_loses_little() -> None:
    confidences = torch.tensor([[0.555, 0.705, 0.9, 0.95], [1.0, 1.0, 1.0, 1.0]])
    predicted = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]])
    labels = torch.zeros(4, dtype=torch.int64)
    assert cheapest_threshold(confidences, predicted, labels, 0.0) == pytest.approx(0.71)
    assert cheapest_threshold(confidences, predicted, labels, 0.25) == pytest.approx(0.56)
    assert cheapest_threshold(confidences, predicted, labels, 1.0) == 0.0
    confidences[0] = 1.0
    threshold = cheapest_threshold(confidences, predicted, labels, 0.0)
    assert threshold > 1
    assert exit_by_confidence(confidences, threshold).tolist() == [1, 1, 1, 1]
