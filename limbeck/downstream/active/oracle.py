"""Oracles: label the images that were chosen, and hold out images to measure accuracy."""

from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.label_list import read_label_list
from limbeck.data.store.store import Store, read_paths
from limbeck.downstream.selection.choice import Rows
from limbeck.downstream.selection.covering import random_order

Labels = NDArray[np.int64]
HELD_OUT_DRAW = 1000
"""Number of the random order that the held-out images are the first of; choices and their covering draw 0 to 10."""


class Oracle(NamedTuple):
    """The label of every image."""

    labels: Labels  # [N]
    names: list[str]


def read_oracle(oracle: str | PathLike[str], source: object, store: Store) -> Oracle:
    """Return the labels of a list, or those of the images themselves if the oracle is the source.

    Raises:
        UserError: an image has no label, all have the same one, or the list cannot be read.
    """
    own = isinstance(source, str | PathLike) and Path(oracle).resolve() == Path(source).resolve()
    if not own and Path(oracle).is_dir():
        raise UserError(
            f"the oracle '{oracle}' is a folder other than the images': give a list of path and label, or the images "
            f"themselves, '{source}'",
            code="oracle-is-folder",
        )
    paths = read_paths(store)
    labels, names = (store.labels, store.label_names) if own else read_label_list(Path(oracle), store)[:2]
    missing = np.flatnonzero(labels < 0)
    if len(missing):
        raise UserError(
            f"the oracle '{oracle}' has no label for {plural(len(missing), 'image')} of {len(labels):,}, such as "
            f"'{paths[missing[0]]}': add them, or leave these images out (--exclude)",
            code="oracle-misses-images",
        )
    if len(np.unique(labels)) < 2:
        raise UserError(f"the oracle '{oracle}' has one class: there is nothing to learn", code="one-class")
    return Oracle(np.asarray(labels), list(names))


def hold_out(known: Labels, share: float, seed: int) -> Rows:
    """Return, increasing, a random share of the images without a known label [N]: none of them is chosen."""
    unlabeled = np.flatnonzero(known < 0)
    order = random_order(len(unlabeled), seed, HELD_OUT_DRAW)
    return np.sort(unlabeled[order[: round(share * len(unlabeled))]])
