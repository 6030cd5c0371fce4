"""Losses are computed in float32 (or float64), whatever the precision of the network."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Outside autocast, and products of float32 matrices in float32 even where the program allows TF32 or bf16 in them.

    For what is squared or inverted: a covariance from TF32 is wrong in the third digit.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]  # set by torch
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
