"""Move the outliers of activations into weights before a network is quantized (SmoothQuant).

Xiao et al. 2023, section 4 (arXiv 2211.10438), written from the formula: the output of a LayerNorm is divided by s and
the weights of the Linear layers that read it are multiplied by it, channel by channel, with
s_j = max|X_j|^a / max|W_j|^(1 - a). The network computes the same.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.exports.proof import ExampleBatch

STRENGTH = 0.5  # a of the paper, its default


@torch.no_grad()
def smooth(network: nn.Module, batches: Sequence[ExampleBatch]) -> int:
    """Smooth a network in eval mode in place; return how many LayerNorms were changed.

    Changed are those whose output only Linear layers read, as far as the calls of modules show; where the network then
    computes something else, because a function reads one as well, all are changed back.

    Args:
        network: the network.
        batches: images to measure the activations on.
    """
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = network(batches[0][0])
    pairs = _readers(network, batches[0][0])
    for norm, (readers, largest) in _measure(network, pairs, batches).items():
        _divide(norm, readers, largest)
    if not torch.allclose(network(batches[0][0]), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item()):
        network.load_state_dict(before)
        return 0
    return len(pairs)


def _readers(network: nn.Module, images: Tensor) -> dict[nn.LayerNorm, list[nn.Linear]]:
    """Return the LayerNorms whose output is the input of Linear layers, and of no other module without children."""
    outputs: dict[int, tuple[nn.LayerNorm, Tensor]] = {}  # the tensor is held, so that no other gets its number
    readers: dict[nn.LayerNorm, list[nn.Module]] = defaultdict(list)

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            outputs[id(output)] = (module, output)
        if inputs and id(inputs[0]) in outputs:
            readers[outputs[id(inputs[0])][0]].append(module)

    hooks = [module.register_forward_hook(note) for module in network.modules() if not any(module.children())]
    network(images)
    for hook in hooks:
        hook.remove()
    linear = {norm: [reader for reader in found if isinstance(reader, nn.Linear)] for norm, found in readers.items()}
    return {norm: found for norm, found in linear.items() if found and len(found) == len(readers[norm])}


def _measure(
    network: nn.Module, pairs: dict[nn.LayerNorm, list[nn.Linear]], batches: Sequence[ExampleBatch]
) -> dict[nn.LayerNorm, tuple[list[nn.Linear], Tensor]]:
    """Return, with the readers of every LayerNorm, the largest absolute value of each channel of its output."""
    largest: dict[nn.LayerNorm, Tensor] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(module, nn.LayerNorm)
        found = output.abs().flatten(0, -2).amax(dim=0)
        largest[module] = torch.maximum(largest.get(module, found), found)

    hooks = [norm.register_forward_hook(note) for norm in pairs]
    for images, _ in batches:
        network(images)
    for hook in hooks:
        hook.remove()
    return {norm: (readers, largest[norm]) for norm, readers in pairs.items()}


def _divide(norm: nn.LayerNorm, readers: list[nn.Linear], activations: Tensor) -> None:
    weights = torch.stack([reader.weight.abs().amax(dim=0) for reader in readers]).amax(dim=0)
    scale = activations.clamp_min(1e-5) ** STRENGTH / weights.clamp_min(1e-5) ** (1 - STRENGTH)
    norm.weight.div_(scale)
    if norm.bias is not None:
        norm.bias.div_(scale)
    for reader in readers:
        reader.weight.mul_(scale)
