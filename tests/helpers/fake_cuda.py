"""A CUDA device without a GPU: torch's fake tensors have a device, a shape and a type, and no values.

What needs a value (`.item()`, a mask as an index, `if tensor`) raises, which on a GPU would wait for the device. What
mixes devices raises, too. torch's backward pass asks the driver for its devices, so `backward` walks the graph here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

T = TypeVar("T")
CUDA = torch.device("cuda", 0)


class Watch(TorchDispatchMode):
    """Counts the operators that a device would run, and refuses one that brings its values to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = 0
        """Operators that write to the device; a view of another tensor is none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        before, after = devices((args, kwargs)), devices(out)
        assert not ("cuda" in before and "cpu" in after), f"{func} waits for the device"
        copied = "cpu" in before and "cuda" in after and func is torch.ops.aten._to_copy.default
        assert not copied or (kwargs or {}).get("non_blocking"), "a copy to the device waits until it is done"
        computes = "cuda" in after or ("cuda" in before and func._schema.is_mutable)
        self.launches += computes and not func.is_view
        return out


def devices(value: Any) -> set[str]:
    """Return the kinds of devices of all tensors in a nested value."""
    return {leaf.device.type for leaf in tree_leaves(value) if isinstance(leaf, Tensor)}


class FakeCuda:
    """Moves values to the device."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode

    def move(self, value: T) -> T:
        """Return a nested value with fake tensors on the device in place of its tensors."""
        moved: T = tree_map(lambda leaf: self._tensor(leaf) if isinstance(leaf, Tensor) else leaf, value)
        return moved

    def move_module(self, module: nn.Module) -> None:
        """Replace the parameters and buffers of a module."""
        module._apply(self._tensor)

    def move_attributes(self, holder: Any) -> None:
        """Replace the tensors among the attributes of an object."""
        for name, value in vars(holder).items():
            if isinstance(value, Tensor):
                setattr(holder, name, self._tensor(value))

    def _tensor(self, tensor: Tensor) -> Tensor:
        fake = tensor if isinstance(tensor, FakeTensor) else self.mode.from_tensor(tensor)
        return fake.to(CUDA, non_blocking=True)


@contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """Create only fake tensors in this block."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield FakeCuda(mode)


@contextmanager
def autocast(dtype: torch.dtype) -> Iterator[None]:
    """Run in half precision; `torch.autocast` refuses where there is no GPU."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)


def backward(total: Tensor) -> dict[Tensor, Tensor]:
    """Return the gradients of a scalar by parameter: torch's backward pass without its engine, node by node."""
    received: dict[Any, dict[int, Tensor]] = {total.grad_fn: {0: torch.ones_like(total)}}
    found: dict[Tensor, Tensor] = {}
    for node in _from_the_loss_on(total.grad_fn):
        given = received.pop(node, None)
        if given is None:
            continue
        if hasattr(node, "variable"):
            found[node.variable] = given[0]
            continue
        run = node if callable(node) else node.apply  # the second is a `torch.autograd.Function`
        out = run(*(given.get(index) for index in range(len(node._input_metadata))))
        for (target, index), gradient in zip(
            node.next_functions, out if isinstance(out, tuple) else (out,), strict=False
        ):
            if target is not None and gradient is not None:
                gradient = gradient.sum_to_size(target._input_metadata[index].shape)
                slot = received.setdefault(target, {})
                slot[index] = slot[index] + gradient if index in slot else gradient
    return found


def _from_the_loss_on(root: Any) -> list[Any]:
    """Return the nodes of a graph, each one before those that receive its gradients."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, finished = stack.pop()
        if finished:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((target, False) for target, _ in node.next_functions if target is not None)]
    return order[::-1]
