"""Held-out rows: every labeled row is left out once, with others of its class."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.augment.draw_parameters import hash_uniforms

FOLDS = 5


def held_out_folds(labels: NDArray[np.int64], seed: int, folds: int = FOLDS) -> Iterator[NDArray[np.bool_]]:
    """Yield masks [N] of the rows that are held out, such that every class remains among the others.

    The rows of a class take turns in a seeded order. The only row of a class is never held out.
    """
    order = np.argsort(hash_uniforms(seed, 0, 0, np.arange(len(labels)), 1)[:, 0], kind="stable")
    turn = np.full(len(labels), -1)
    shift = 0
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        if len(rows) > 1:
            turn[rows] = (np.arange(len(rows)) + shift) % folds
            shift += len(rows)  # small classes do not all begin in the first fold
    for fold in range(folds):
        if (turn == fold).any():
            yield turn == fold


def held_out_logits(
    fit: Callable[[NDArray[np.int64]], Callable[[NDArray[np.int64]], Tensor]],
    labels: NDArray[np.int64],
    classes: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Return the logits [M classes] and labels [M] of all rows that can be held out.

    Args:
        fit: from rows to fit on to a function from rows to logits.
        labels: [N].
        classes: number of classes.
        seed: of the folds.
    """
    logits, truth = [torch.zeros(0, classes)], [torch.zeros(0, dtype=torch.int64)]
    for held_out in held_out_folds(labels, seed):
        rows = np.flatnonzero(held_out)
        logits.append(fit(np.flatnonzero(~held_out))(rows).float())
        truth.append(torch.from_numpy(labels[rows]))
    return torch.cat(logits), torch.cat(truth)
