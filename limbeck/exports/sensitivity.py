"""Measure how much each layer of a network loses when its inputs and weights have 8 bits."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.progress import progress
from limbeck.exports.proof import ExampleBatch, features_of

LEVELS = 255


@torch.no_grad()
def sensitivities(network: nn.Module, batches: Sequence[ExampleBatch]) -> dict[str, float]:
    """Return for each convolution and Linear layer how far the features turn if it alone has 8 bits, largest first.

    Args:
        network: the network, in eval mode.
        batches: images; the difference is the mean of 1 - cosine over them.
    """
    expected = features_of(network, batches)
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    found = {
        name: _turned(network, layer, batches, expected) for name, layer in progress(layers, "layers", unit="layers")
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _turned(
    network: nn.Module, layer: nn.Conv2d | nn.Linear, batches: Sequence[ExampleBatch], expected: Tensor
) -> float:
    weight, hook = layer.weight.data, layer.register_forward_pre_hook(_round_input())
    layer.weight.data = round_to_8_bits(weight, tuple(range(1, weight.ndim)))
    try:
        return 1 - F.cosine_similarity(features_of(network, batches), expected).mean().item()
    finally:
        layer.weight.data = weight
        hook.remove()


def _round_input() -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    return lambda module, inputs: (round_to_8_bits(inputs[0]), *inputs[1:])


def round_to_8_bits(x: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """Return `x` on 255 levels between its extremes: over all of it, or over `dims`, which are those of a channel."""
    low = x.amin(dim=dims, keepdim=True) if dims else x.min()
    high = x.amax(dim=dims, keepdim=True) if dims else x.max()
    step = ((high - low) / LEVELS).clamp_min(torch.finfo(x.dtype).tiny)
    return ((x - low) / step).round() * step + low
