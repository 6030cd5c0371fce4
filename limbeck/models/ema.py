"""Exponential moving averages of networks, updated after the optimizer's step."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class EMA(nn.Module, Generic[M]):
    """A copy of a module whose parameters are the exponential moving average of the original's.

    Buffers are not averaged: the copy runs in training mode and its BatchNorms keep their own statistics, as in BYOL,
    MoCo v3 and SDSSL (hagiss/SDSSL bbd34fa). Parameters never get a gradient. The copy starts equal to the original.
    """

    module: M

    def __init__(self, source: M) -> None:
        super().__init__()
        self.module = copy.deepcopy(source).requires_grad_(False)

    @torch.no_grad()
    def update(self, source: M, momentum: float) -> None:
        """Set every parameter to momentum * parameter + (1 - momentum) * source."""
        averages, sources = ([p.detach() for p in module.parameters()] for module in (self.module, source))
        torch._foreach_lerp_(averages, sources, 1.0 - momentum)
