"""Confusions of the linear probe: a matrix of few classes, a list of many."""

from collections.abc import Sequence
from typing import NamedTuple

from limbeck.reports.runs import RunSummary

MOST_CLASSES = 20  # of a matrix that one can read
MOST_PAIRS = 12  # of the list


class Pair(NamedTuple):
    """Two classes, the second of which is predicted for images of the first."""

    label: str
    predicted: str
    images: int
    share: float
    """Of the images with the label."""


class MatrixRow(NamedTuple):
    """The test images of a label."""

    label: str
    images: int
    cells: Sequence[tuple[int, float]]
    """Images and their share, by predicted label."""


class Confusions(NamedTuple):
    """The mistakes of the probe of one run."""

    name: str
    accuracy: float
    classes: Sequence[str]
    rows: Sequence[MatrixRow]
    """Of all classes; empty where there are too many."""
    pairs: Sequence[Pair]
    """The most frequent mistakes, the most frequent first."""


def confusions(runs: Sequence[RunSummary]) -> list[Confusions]:
    """Return the mistakes of every run with a linear probe in its evaluation."""
    return [found for run in runs if (found := _of(run))]


def _of(run: RunSummary) -> Confusions | None:
    if not run.result or not run.result.confusions:
        return None
    classes, found = run.result.classes, run.result.confusions
    images = [sum(count for label, _, count in found if label == row) for row in range(len(classes))]
    wrong = sorted((entry for entry in found if entry[0] != entry[1]), key=lambda entry: -entry[2])
    pairs = [Pair(classes[a], classes[b], count, count / images[a]) for a, b, count in wrong[:MOST_PAIRS]]
    right = sum(count for label, predicted, count in found if label == predicted)
    rows = _matrix(classes, images, found) if len(classes) <= MOST_CLASSES else []
    return Confusions(run.name, right / sum(images), classes, rows, pairs)


def _matrix(classes: Sequence[str], images: Sequence[int], found: Sequence[tuple[int, int, int]]) -> list[MatrixRow]:
    counts = {(label, predicted): count for label, predicted, count in found}
    return [
        MatrixRow(
            name,
            images[row],
            [((count := counts.get((row, column), 0)), count / max(images[row], 1)) for column in range(len(classes))],
        )
        for row, name in enumerate(classes)
    ]
