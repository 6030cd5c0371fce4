"""Memory of a step: measured where it can be, the rest extrapolated."""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class MemoryUse(NamedTuple):
    """Memory before the first step, and at the peak of one with some images; all in bytes."""

    used: int
    free: int
    peak: int = 0
    images: int = 1  # of a forward pass

    @classmethod
    def before(cls, device: torch.device) -> "MemoryUse":
        """Measure what is used before any step."""
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        return cls(used_memory(device), free_memory(device))

    def after(self, peak: int, images: int) -> "MemoryUse":
        """Return this with the peak of a step."""
        return self._replace(peak=peak, images=images)

    def per_image(self, fixed: int) -> float:
        """Return the memory that grows with the batch; `fixed` are gradients and the state of the optimizer."""
        return max(self.peak - self.used - fixed, 1) / self.images


def used_memory(device: torch.device) -> int:
    """Return the bytes in use: by the process, or allocated on a GPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def peak_memory(device: torch.device) -> int:
    """Return the largest `used_memory` so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def count_activations(module: nn.Module) -> Iterator[dict[int, int]]:
    """Yield the sizes, by address, of what a forward pass in the block saves for its backward pass, in bytes."""
    sizes: dict[int, int] = {}
    weights = {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def fits_in_memory(step: Callable[[], object]) -> bool:
    """Return whether a step runs without exhausting the memory of its GPU, which is free again afterwards."""
    try:
        step()
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def fixed_bytes(method: nn.Module, optimizer: Optimizer) -> int:
    """Return the bytes of gradients and of the optimizer's state, which do not grow with the batch."""
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    return gradients + tensor_bytes(optimizer.state_dict())


def free_memory(device: torch.device) -> int:
    """Return the bytes that are available."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def tensor_bytes(state: Any) -> int:
    """Return the size of all tensors in nested dictionaries and lists."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(tensor_bytes(part) for part in parts)
