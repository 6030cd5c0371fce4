"""Hits of single test images, and the error of a paired difference, counted image by image."""

import math

import numpy as np
import pytest
import torch

from limbeck.evaluation.hits import pack_hits, paired_error, unpack_hits
from tests.helpers.errors import raises


@pytest.mark.parametrize("images", [1, 7, 8, 9, 1000])
def test_hits_survive_their_packing(images: int) -> None:
    right = torch.from_numpy(np.random.default_rng(images).random(images) < 0.6)
    packed = pack_hits(right)
    assert packed.isascii()
    assert unpack_hits(packed, images).tolist() == right.tolist()
    assert len(packed) <= images / 6 + 4
    for wrong in (packed + "AAAA", packed[4:], "not base64", "ä"):
        with raises("not-a-result", str(images)):
            unpack_hits(wrong, images)


def test_the_error_of_a_difference_is_that_of_pairs() -> None:
    draws = np.random.default_rng(0)
    first, second = draws.random(400) < 0.6, draws.random(400) < 0.5
    gaps = [float(a) - float(b) for a, b in zip(first, second, strict=True)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert paired_error(first, second) == pytest.approx(math.sqrt(variance / len(gaps)))
    alone = [sum(a > b for a, b in zip(*pair, strict=True)) for pair in ((first, second), (second, first))]
    counted = math.sqrt(sum(alone) - (alone[0] - alone[1]) ** 2 / 400) / 400
    assert paired_error(first, second) == pytest.approx(counted)
    assert paired_error(first, first) == 0
    apart = math.hypot(*(math.sqrt(p * (1 - p) / 400) for p in (first.mean(), second.mean())))
    assert paired_error(first, second) == pytest.approx(apart, rel=0.1), "of unrelated images"
