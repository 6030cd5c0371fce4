"""Choose the rows of a feature matrix that are worth labeling first."""

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.text import plural
from limbeck.downstream.selection.choice import Choice, Rows
from limbeck.downstream.selection.config import NEEDS_LABELS, TRAINED, SelectConfig, Strategy
from limbeck.downstream.selection.covering import Covering, covering, random_order
from limbeck.downstream.selection.distinct import DistinctRows
from limbeck.downstream.selection.geometry import geometry
from limbeck.downstream.selection.pool import Pool
from limbeck.neighbors.vectors import FeatureMatrix


class Selected(NamedTuple):
    """The rows that were chosen, best first, and what they are worth."""

    rows: Rows
    reasons: list[str]
    covering: Covering
    pool: int  # rows that could be chosen
    near_duplicates: int  # rows that were left out as near-duplicates of a labeled or chosen one


def select_rows(
    features: Float[NDArray[np.float32], "N D"],
    cfg: SelectConfig,
    labels: NDArray[np.int64] | None = None,
    descriptors: Callable[[Rows], FeatureMatrix] | None = None,
) -> Selected:
    """Choose rows without a label.

    Args:
        features: of all rows, in memory or mapped.
        cfg: the settings.
        labels: class of each row, -1 where it is not known; by default of none. Labels of other rows play no part.
        descriptors: return vectors of rows with cosines that show near-duplicates; by default none are left out.

    Raises:
        UserError: the budget is more than there are rows without a label, the strategy is unknown or needs labels, or
            all features are the same.
    """
    labels = np.full(len(features), -1) if labels is None else labels
    check_request(cfg, labels)
    indices = pool_indices(labels, max(cfg.pool, cfg.budget), cfg.seed)
    return choose(geometry(torch.from_numpy(features[indices])), indices, labels[indices], cfg, descriptors)


def choose(
    points: Float[Tensor, "M C"],
    indices: Rows,
    labels: NDArray[np.int64],
    cfg: SelectConfig,
    descriptors: Callable[[Rows], FeatureMatrix] | None = None,
) -> Selected:
    """Choose rows without a label where they lie.

    Args:
        points: in the space in which distances count.
        indices: [M], the rows of all images that the points are of.
        labels: class of each of them, -1 where it is not known.
        cfg, descriptors: as in `select_rows`.
    """
    pool = Pool(points, labels, cfg.budget, cfg.seed)
    available = labels < 0
    candidates = int(available.sum())
    distinct = descriptors and DistinctRows(descriptors(indices), cfg.similarity_threshold, available)
    if distinct:
        distinct.clear(pool.labeled)
    found = list[Choice]()
    for choice in islice(pool.choices(cfg.strategy, available), cfg.budget):
        found.append(choice)
        available[choice.row] = False
        if distinct:
            distinct.clear(np.array([choice.row]))
    rows = np.array([choice.row for choice in found])
    return Selected(
        indices[rows],
        [choice.reason for choice in found],
        covering(pool.points, pool.labeled, rows, cfg.seed),
        candidates,
        distinct.left_out if distinct else 0,
    )


def check_request(cfg: SelectConfig, labels: NDArray[np.int64]) -> None:
    """Raise UserError for what needs no features to be wrong: strategy, budget, labels [N], -1 where there is none."""
    _check_strategy(cfg.strategy, labels)
    check_budget(cfg, labels)


def _check_strategy(strategy: str, labels: NDArray[np.int64]) -> None:
    """Raise UserError unless there is a strategy of that name, and labels of two classes where it needs them."""
    names = get_args(Strategy)
    if strategy not in names:
        meant = did_you_mean(strategy, names)
        raise UserError(f"unknown strategy '{strategy}'{meant}; choose {', '.join(names)}", code="unknown-strategy")
    if strategy == TRAINED:
        raise UserError(
            f"strategy {strategy} trains its own network and has no use for features: call `limbeck.select`",
            code="strategy-trains",
        )
    classes = len(np.unique(labels[labels >= 0]))
    if strategy in NEEDS_LABELS and classes < 2:
        raise UserError(
            f"strategy {strategy} needs images of two classes with labels, and there "
            f"{'is one class' if classes else 'are no labels'}: give them with --labeled ROWS.csv, or choose typical",
            code="strategy-needs-labels",
        )


def pool_indices(labels: NDArray[np.int64], most: int, seed: int) -> Rows:
    """Return, increasing, all rows with a label and at most `most` of the others, drawn with the seed."""
    unlabeled = np.flatnonzero(labels < 0)
    drawn = unlabeled[random_order(len(unlabeled), seed)[:most]]
    return np.sort(np.concatenate([np.flatnonzero(labels >= 0), drawn]))


def check_budget(cfg: SelectConfig, labels: NDArray[np.int64]) -> None:
    """Raise UserError unless so many images have no label [N], which is -1."""
    unlabeled = int((labels < 0).sum())
    if not 1 <= cfg.budget <= unlabeled:
        raise UserError(
            f"the budget is {cfg.budget:,} and there {'is' if unlabeled == 1 else 'are'} "
            f"{plural(unlabeled, 'image')} without a label: choose 1 to {unlabeled:,}",
            code="budget-out-of-range",
        )
