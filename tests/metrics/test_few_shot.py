"""Few-shot episodes: the draw, and accuracies equal to numbers by loops."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch

from limbeck.metrics.few_shot import draw_episodes, episode_accuracies, few_shot
from tests.helpers.golden import Golden, assert_allclose

DISTANCES: tuple[Literal["cosine", "euclidean"], ...] = ("cosine", "euclidean")


@pytest.mark.parametrize("distance", DISTANCES)
def test_accuracies_equal_loops(distance: Literal["cosine", "euclidean"], golden: Callable[[str], Golden]) -> None:
    numbers = golden("few_shot")
    features, episodes = torch.from_numpy(numbers["features"]), torch.from_numpy(numbers["episodes"])
    found = episode_accuracies(features, episodes, int(numbers["shot"]), distance)
    assert_allclose(found, numbers[f"accuracy_{distance}"])
    assert few_shot(found).accuracy == pytest.approx(float(numbers[f"mean_{distance}"]))
    if distance == "cosine":
        assert few_shot(found).half_width == pytest.approx(float(numbers["half_width_95"]))


def test_episodes_are_of_distinct_rows_of_distinct_classes() -> None:
    labels = np.repeat(np.arange(7), [20, 20, 20, 20, 20, 20, 3])
    episodes = draw_episodes(labels, 2, way=5, queries=4, count=50, seed=1)
    assert episodes is not None
    assert episodes.shape == (50, 5, 6)
    for episode in episodes:
        assert len({*episode.ravel()}) == 30
        assert all(len({*labels[rows]}) == 1 for rows in episode)
        assert len({int(labels[rows[0]]) for rows in episode} - {6}) == 5
    again, other = (draw_episodes(labels, 2, queries=4, count=50, seed=seed) for seed in (1, 2))
    assert np.array_equal(np.array(again), episodes)
    assert not np.array_equal(np.array(other), episodes)


def test_few_classes_and_few_images() -> None:
    labels = np.array([0] * 4 + [1] * 6)
    episodes = draw_episodes(labels, 1, count=3)
    assert episodes is not None
    assert episodes.shape == (3, 2, 4)
    assert draw_episodes(labels, 4, count=3) is None
    assert draw_episodes(np.zeros(9, int), 1, count=3) is None
