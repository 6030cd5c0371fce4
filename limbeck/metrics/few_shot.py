"""Few-shot episodes: tell a few classes apart from a few images of each, by the nearest centroid.

Vinyals et al., *Matching Networks for One Shot Learning*, NeurIPS 2016 (episodes); Snell et al., *Prototypical
Networks*, NeurIPS 2017 (centroids).
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.augment.draw_parameters import hash_uniforms

WAY, QUERIES, EPISODES = 5, 15, 600
CHUNK = 2**24  # numbers that are gathered at once

Episodes = NDArray[np.int64]
"""[E way shot + queries] rows: of every class first the shots, then the queries."""


class FewShot(NamedTuple):
    """The mean accuracy of many episodes."""

    accuracy: float
    half_width: float
    """Of its 95 % interval, 1.96 s / sqrt(E) with the standard deviation s over the E episodes."""


def draw_episodes(
    labels: NDArray[np.int64],
    shot: int,
    *,
    way: int = WAY,
    queries: int = QUERIES,
    count: int = EPISODES,
    seed: int = 0,
) -> Episodes | None:
    """Return episodes of `way` classes with `shot` + `queries` images each, without replacement.

    A draw is a hash of the seed, the episode and the class or row. With fewer classes in `labels` [N] there are
    fewer, and where its `way` largest classes have fewer images there are fewer queries; None if that leaves none.
    """
    sizes = np.bincount(labels)
    way = min(way, int((sizes > 0).sum()))
    queries = min(queries, int(np.sort(sizes)[-way]) - shot)
    if queries < 1 or way < 2:
        return None
    classes = np.flatnonzero(sizes >= shot + queries)
    rows = {label: np.flatnonzero(labels == label) for label in classes.tolist()}
    episodes = np.empty((count, way, shot + queries), np.int64)
    for episode in range(count):
        for place, label in enumerate(_first(classes, way, seed, episode, 0).tolist()):
            episodes[episode, place] = _first(rows[label], shot + queries, seed, episode, 1)
    return episodes


def episode_accuracies(
    features: Float[Tensor, "N D"],
    episodes: Int[Tensor, "E way images"],
    shot: int,
    distance: Literal["cosine", "euclidean"] = "cosine",
) -> Float[Tensor, " E"]:
    """Return the share of the queries of each episode that are nearest to the centroid of their class.

    Args:
        features: of all rows.
        episodes: as `draw_episodes` returns them.
        shot: images of a class that its centroid is of.
        distance: cosine of the centroids of unit features, or Euclidean distance of the features as they are.
    """
    size = max(1, CHUNK // (episodes[0].numel() * features.shape[1]))
    parts = [_accuracies(features, part, shot, distance) for part in episodes.split(size)]
    return torch.cat(parts)


def few_shot(accuracies: Float[Tensor, " E"]) -> FewShot:
    """Return the mean over the episodes and half the width of its 95 % interval."""
    half_width = 1.96 * accuracies.double().std().item() / len(accuracies) ** 0.5
    return FewShot(accuracies.double().mean().item(), half_width)


def _accuracies(features: Tensor, episodes: Tensor, shot: int, distance: str) -> Tensor:
    values = features[episodes]
    values = F.normalize(values, dim=-1) if distance == "cosine" else values
    centroids, queries = values[:, :, :shot].mean(dim=2), values[:, :, shot:].flatten(1, 2)
    if distance == "cosine":
        scores = queries @ F.normalize(centroids, dim=-1).mT
    else:
        scores = -torch.cdist(queries, centroids, compute_mode="donot_use_mm_for_euclid_dist")
    truth = torch.arange(episodes.shape[1], device=features.device).repeat_interleave(episodes.shape[2] - shot)
    return (scores.argmax(dim=-1) == truth).double().mean(dim=1)


def _first(items: NDArray[np.int64], count: int, seed: int, episode: int, draw: int) -> NDArray[np.int64]:
    """Return `count` of the items in an order that is drawn for the episode."""
    return items[np.argsort(hash_uniforms(seed, episode, draw, items, 1)[:, 0], kind="stable")[:count]]
