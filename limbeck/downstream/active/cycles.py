"""The cycles: learn from what is labeled, measure, choose, label."""

import logging
import math
from dataclasses import replace

import numpy as np

from limbeck.downstream.active.journal import Cycle, Journal
from limbeck.downstream.active.learner import Learner
from limbeck.downstream.active.oracle import Labels, Oracle
from limbeck.downstream.selection.choice import Rows
from limbeck.downstream.selection.select import Selected

logger = logging.getLogger(__name__)


def run_cycles(
    learner: Learner, oracle: Oracle, known: Labels, held_out: Rows, cycles: int, journal: Journal
) -> list[Cycle]:
    """Run the cycles and return their results; those in the journal are not repeated.

    The oracle tells the labels of chosen images to the learner, and those of held-out images to nobody: they are what
    its predictions are compared with.

    Args:
        learner: the classifier that chooses.
        oracle: the labels of all images.
        known: [N], labels that are known before, -1 elsewhere. If there are none, a first choice comes first.
        held_out: images that the learner never chooses.
        cycles: how often to learn.
        journal: what was found already.
    """
    known = known.copy()
    first = 1 if (known >= 0).any() else 0
    for number, cycle in enumerate(range(first, cycles + 1)):
        if number == len(journal.cycles):
            journal.add(_cycle(learner, oracle, known, held_out, cycle, choose=cycle < cycles))
            learner.close(cycle)
            _log(cycle, cycles, journal)
        chosen = list(journal.cycles[number].chosen)
        known[chosen] = oracle.labels[chosen]
    return journal.cycles


def _cycle(learner: Learner, oracle: Oracle, known: Labels, held_out: Rows, number: int, choose: bool) -> Cycle:
    if number == 0:
        return _chosen(Cycle(labels=0), learner.start(known))
    labels = int((known >= 0).sum())
    learner.fit(known, number)
    accuracy = float((learner.predict(held_out) == oracle.labels[held_out]).mean())
    stderr = math.sqrt(accuracy * (1 - accuracy) / len(held_out))
    found = Cycle(labels=labels, accuracy=accuracy, stderr=stderr)
    return _chosen(found, learner.choose(known, number)) if choose else found


def _log(cycle: int, cycles: int, journal: Journal) -> None:
    """Log the result of a cycle, unless it is kept in memory alone for a comparison."""
    found = journal.cycles[-1]
    if journal.file and found.accuracy is not None:
        logger.info("cycle %d of %d: accuracy %.1f %%, %s labels", cycle, cycles, 100 * found.accuracy, found.labels)


def _chosen(cycle: Cycle, selected: Selected) -> Cycle:
    rows = tuple(np.asarray(selected.rows).tolist())
    return replace(cycle, chosen=rows, reasons=tuple(selected.reasons), near_duplicates=selected.near_duplicates)
