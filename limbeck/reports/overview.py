"""All candidates of a report at once: a map of photographs, the unusual ones, those with neighbors of another label.

What `limbeck explore` shows with a script for all images, the report shows as still pictures for a few hundred.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.downstream.anomalies.distances import outlier_scores
from limbeck.downstream.explorer.groups import vote
from limbeck.downstream.explorer.layout import lay_out
from limbeck.neighbors.graph import build_graph

VOTERS = 20  # nearest candidates that vote, as in the evaluation
SHOWN = 12  # unusual images, and images with another vote
WIDTH, HEIGHT = 4.4, 8.0  # percent of the map that a photograph takes
FEWEST = 12  # candidates of a map


class Placed(NamedTuple):
    """A photograph on the map."""

    picture: str
    label: str
    left: float  # percent of the width
    top: float


class Disputed(NamedTuple):
    """An image with neighbors that vote for another label."""

    picture: str
    label: str
    vote: str


class Overview(NamedTuple):
    """Overview of all candidates at one depth."""

    space: str
    layout: str
    placed: Sequence[Placed]
    unusual: Sequence[tuple[str, str]]
    """Picture and label, the most unusual first."""
    disputed: Sequence[Disputed]
    wrong: int
    """Images that the vote is wrong about."""


def overview(
    space: str,
    vectors: Float[Tensor, "N D"],
    labels: NDArray[np.int64],
    label_names: Sequence[str],
    picture: Callable[[int], str],
) -> Overview | None:
    """Return the map of the candidates with these unit vectors; None where they are too few for one.

    `picture` returns the data URI of a candidate.
    """
    if len(vectors) < FEWEST:
        return None
    array = vectors.numpy()
    layout, graph = lay_out(array), build_graph(array, min(VOTERS, len(array) - 1), search="exact")
    scores = outlier_scores(graph.cosines)
    labeled = bool((labels >= 0).all())
    votes = vote(graph, labels) if labeled else labels
    wrong = np.flatnonzero(votes != labels)
    names = ["" if label < 0 else label_names[label] for label in labels]
    return Overview(
        space=space,
        layout=layout.name,
        placed=[Placed(picture(i), names[i], x, y) for i, x, y in _place(layout.positions)],
        unusual=[(picture(i), names[i]) for i in np.argsort(-scores, kind="stable")[:SHOWN]],
        disputed=[Disputed(picture(i), names[i], label_names[votes[i]]) for i in _spread(wrong)],
        wrong=len(wrong),
    )


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return some of the rows, from all over them: neighboring ones often have one label."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, SHOWN).round().astype(np.int64))] if len(rows) else rows


def _place(positions: NDArray[np.float32]) -> list[tuple[int, float, float]]:
    """Return candidates with their place in percent, as many as do not cover each other."""
    low, span = positions.min(axis=0), np.maximum(np.ptp(positions, axis=0), 1e-9)
    places = (positions - low) / span * np.array([100 - WIDTH, 100 - HEIGHT])
    chosen: list[tuple[int, float, float]] = []
    for i in np.random.default_rng(0).permutation(len(places)).tolist():
        x, y = places[i].tolist()
        if all(abs(x - left) >= WIDTH or abs(y - top) >= HEIGHT for _, left, top in chosen):
            chosen.append((i, round(x, 2), round(y, 2)))
    return chosen
