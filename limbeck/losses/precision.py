"""The precision of losses: float32 (or float64), whatever the precision of the network."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run `loss` outside autocast, with half-precision tensors raised to float32; float64 stays float64."""

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        first = args[0]
        assert isinstance(first, Tensor)
        raised: Any = loss  # with arguments of other dtypes, which the signature cannot express
        with torch.autocast(first.device.type, enabled=False):
            return raised(*map(_raise, args), **{key: _raise(value) for key, value in kwargs.items()})

    return wrapped


def _raise(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Disable autocast, and TF32 and bf16 in products of float32 matrices even where the program allows them.

    Use it for what is squared or inverted: a covariance from TF32 is wrong in the third digit.
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
