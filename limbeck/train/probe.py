"""Scores of an encoder while it trains."""

from collections.abc import Callable

import torch

from limbeck.backbones import Backbone

Probe = Callable[[Backbone], dict[str, float]]


def score(probe: Probe, encoder: Backbone) -> dict[str, float]:
    """The probe's numbers for an encoder in evaluation mode; every module is left in the mode it had."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    with torch.no_grad():
        numbers = probe(encoder)
    for module, training in modes:
        module.training = training
    return numbers
