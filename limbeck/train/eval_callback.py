"""Evaluation of an encoder while it trains."""

from collections.abc import Callable

from limbeck.core.types import Encoder
from limbeck.models.eval_mode import eval_mode

EvalCallback = Callable[[Encoder], dict[str, float]]
"""From an encoder in evaluation mode to its scores, by column of metrics.csv."""


def evaluate_encoder(callback: EvalCallback, encoder: Encoder) -> dict[str, float]:
    """Return the scores of an encoder in evaluation mode; afterwards every module is in the mode it had before."""
    with eval_mode(encoder):
        return callback(encoder)
