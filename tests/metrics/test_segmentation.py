"""Mean IoU against the definition, with ignored pixels and classes that do not occur."""

from collections.abc import Callable

import numpy as np
import torch

from limbeck.metrics.segmentation import confusion_matrix, intersection_over_union, mean_iou
from tests.helpers.golden import Golden, assert_allclose


def test_mean_iou_of_loops(golden: Callable[[str], Golden]) -> None:
    truth = golden("mean_iou")
    found = confusion_matrix(torch.from_numpy(truth["predicted"]), torch.from_numpy(truth["truth"]), 4)
    np.testing.assert_array_equal(found, truth["confusion"])
    assert_allclose(intersection_over_union(found), truth["iou"], rtol=1e-7, atol=1e-9)
    assert_allclose(mean_iou(found), truth["mean_iou"], rtol=1e-7)


def test_a_class_that_does_not_occur_is_left_out_and_one_that_is_never_right_is_not() -> None:
    truth, predicted = torch.tensor([0, 0, 3, 255]), torch.tensor([0, 0, 0, 2])
    found = intersection_over_union(confusion_matrix(predicted, truth, 5))
    assert found.isnan().tolist() == [False, True, True, False, True]
    assert mean_iou(confusion_matrix(predicted, truth, 5)) == (2 / 3 + 0) / 2
