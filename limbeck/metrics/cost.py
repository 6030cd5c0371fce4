"""What a cut of a backbone costs: parameters, arithmetic, time."""

import time
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

WARM_UP, REPEATS = 3, 20


class Cost(NamedTuple):
    """Cost of one image through a network."""

    parameters: int
    gflops: float  # 1e9 operations; a multiplication and its addition count as two
    latency_ms: float | None  # median of REPEATS calls with one image; None if it was not asked for


def cost(network: nn.Module, image: Tensor, *, latency: bool = True) -> Cost:
    """Cost of `network` (in eval mode) on one `image` [1 C H W], on the image's device and in its precision."""
    return Cost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        gflops=_operations(network, image) / 1e9,
        latency_ms=_latency(network, image) if latency else None,
    )


@torch.no_grad()
def _operations(network: nn.Module, image: Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # as plain products: not every fused attention kernel is counted
        network(image)
    return counter.get_total_flops()


@torch.inference_mode()
def _latency(network: nn.Module, image: Tensor) -> float:
    times = []
    for _ in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        network(image)
        if image.is_cuda:
            torch.cuda.synchronize(image.device)
        times.append(time.perf_counter() - start)
    return 1e3 * median(times[WARM_UP:])
