"""All that remembers: parts of a method that change by rules of their own, after the optimiser's step."""

import copy
from collections.abc import Iterable

import torch
from torch import nn


class Ema(nn.Module):
    """A copy of a module whose parameters are the exponential moving average of the original's.

    Buffers are not averaged: the copy runs in training mode and its BatchNorms keep statistics of their own, as in BYOL, MoCo v3
    and SDSSL (hagiss/SDSSL bbd34fa). Parameters never need a gradient. Starts equal to the original.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(source).requires_grad_(False)

    @torch.no_grad()
    def update(self, source: Iterable[nn.Parameter], momentum: float) -> None:
        """theta <- momentum * theta + (1 - momentum) * source, for `source` in the order of the original's parameters."""
        own = list(self.module.parameters())
        torch._foreach_lerp_(own, [p.detach() for p in source], 1.0 - momentum)
