"""Losses are computed in float32 (or float64), whatever the precision of the network."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Tensor])


def full_precision(loss: F) -> F:
    """Runs `loss` outside autocast with half-precision tensors raised to float32; float64 stays float64."""

    @functools.wraps(loss)
    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        first: Tensor = args[0]
        with torch.autocast(first.device.type, enabled=False):
            return loss(*map(_raise, args), **{k: _raise(v) for k, v in kwargs.items()})

    return wrapped  # type: ignore[return-value]


def _raise(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value
