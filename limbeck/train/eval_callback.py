"""Scores of an encoder while it trains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from limbeck.models.backbone import Backbone

Probe = Callable[[Backbone], dict[str, float]]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def score(probe: Probe, encoder: Backbone) -> dict[str, float]:
    """The probe's numbers for an encoder in evaluation mode; every module is left in the mode it had."""
    with evaluating(encoder):
        return probe(encoder)
