"""Cost of a network for one image: parameters, arithmetic, time."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

MIN_ROUNDS, MAX_ROUNDS = 5, 50
SECONDS = 3.0
"""After `MIN_ROUNDS`, further rounds of timing start only within this time, unless another one is given."""


class Latency(NamedTuple):
    """Time of one call, in milliseconds, over the rounds of `latencies`."""

    min_ms: float
    median_ms: float


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def count_operations(network: nn.Module, image: Num[Tensor, "1 ..."]) -> int:
    """Return the arithmetic operations for one `image`; a multiplication and its addition count as two."""
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # as plain products: not every fused attention kernel is counted
        network(image)
    return counter.get_total_flops()


@torch.inference_mode()
def latencies(
    networks: Sequence[Callable[[Tensor], Any]],
    image: Num[Tensor, "1 ..."],
    *,
    threads: int = 1,
    seconds: float = SECONDS,
) -> list[Latency]:
    """Time one call of each network (in eval mode) with `image`, on the image's device with `threads` CPU threads.

    The networks take turns, round after round, so that a burst of other work on the machine hits all of them; each call
    follows two that warm up. The minimum is the time without other work, and therefore the number to compare.
    """
    timers = [
        Timer("network(image)", globals={"network": network, "image": image}, num_threads=threads)
        for network in networks
    ]
    start, rounds = time.perf_counter(), list[list[float]]()
    while len(rounds) < MIN_ROUNDS or (len(rounds) < MAX_ROUNDS and time.perf_counter() - start < seconds):
        rounds.append([1e3 * timer.timeit(1).mean for timer in timers])
    return [Latency(min(times), median(times)) for times in zip(*rounds, strict=True)]
