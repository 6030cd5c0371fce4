"""Uncertainty: choose the rows about which a classifier of the labeled rows is least sure."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from limbeck.downstream.selection.choice import Available, Choices, in_order

Logits = Float[NDArray[np.floating], "N classes"]


def entropy(logits: Logits) -> NDArray[np.floating]:
    """Return the entropy [N] of the softmax of each row, in nats."""
    log_probabilities = _log_softmax(logits)
    return -(np.exp(log_probabilities) * log_probabilities).sum(axis=1)


def margin(logits: Logits) -> NDArray[np.floating]:
    """Return the margin of each row [N]: the probability of its most probable class less that of the second.

    Scheffer, Decomain and Wrobel, *Active Hidden Markov Models for Information Extraction*, 2001.
    """
    second, first = np.sort(np.exp(_log_softmax(logits)), axis=1)[:, -2:].T
    return first - second


def by_entropy(logits: Logits, available: Available) -> Choices:
    """Yield the available rows by falling entropy."""
    values = entropy(logits)
    return in_order(np.argsort(-values, kind="stable"), _reasons("entropy", values), available)


def by_margin(logits: Logits, available: Available) -> Choices:
    """Yield the available rows by rising margin."""
    values = margin(logits)
    return in_order(np.argsort(values, kind="stable"), _reasons("margin", values), available)


def _reasons(name: str, values: NDArray[np.floating]) -> dict[int, str]:
    return {row: f"{name} {value:.3f}" for row, value in enumerate(values.tolist())}


def _log_softmax(logits: Logits) -> NDArray[np.floating]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
