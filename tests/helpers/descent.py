"""Several steps of plain descent, of a method and of its definition in loops on a copy of its parameters."""

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from limbeck.core.types import Batch, StepInfo
from limbeck.methods import Method
from tests.helpers.golden import Golden, assert_allclose

M = TypeVar("M", bound=Method)
TOTAL = 20  # steps of the run that these belong to


def assert_same_steps(
    method: M,
    definition: Callable[[M, Batch, int], Tensor],
    batches: Sequence[Batch],
    after_step: Callable[[M, Batch, int], None] | None = None,
    lr: float = 0.1,
) -> None:
    """Compare loss, gradient and state of every step; `definition` and `after_step` get the copy and the step."""
    reference = copy.deepcopy(method)
    for step, batch in enumerate(batches):
        loss = method(batch, StepInfo(step, TOTAL))
        expected = definition(reference, batch, step)
        torch.testing.assert_close(loss.total, expected, rtol=1e-9, atol=1e-11)
        for module, total in ((method, loss.total), (reference, expected)):
            module.zero_grad()
            total.backward()
        _assert_same(method, reference, lambda p: p.grad)
        _descend(method, lr)
        _descend(reference, lr)
        method.after_step(loss, StepInfo(step, TOTAL))
        if after_step is not None:
            with torch.no_grad():
                after_step(reference, batch, step)
        _assert_same(method, reference, lambda p: p.detach())
    statistics = ("running_", "num_batches")
    state = {k: v for k, v in method.state_dict().items() if not any(word in k for word in statistics)}
    for key, value in state.items():
        torch.testing.assert_close(value, reference.state_dict()[key], rtol=1e-8, atol=1e-10, msg=key)


def assert_steps_of_the_authors(
    method: Method,
    golden: Golden,
    names: dict[str, str],
    batches: Sequence[Batch],
    lr: float = 0.1,
    after: Callable[[int], None] | None = None,
) -> None:
    """Compare the losses of all steps, the gradient of the first, and parameters and BatchNorms after the last.

    `names` maps the start of a name of the authors to the start of the name here.
    """
    load(method, golden, "before", names)
    for step, batch in enumerate(batches):
        method.zero_grad()
        loss = method(batch, StepInfo(step, TOTAL))
        assert_allclose(loss.total, golden["losses"][step], rtol=1e-9, atol=1e-11)
        loss.total.backward()
        if step == 0:
            gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
            expected = renamed(golden, "grad", names)
            assert gradients.keys() == expected.keys()
            for name, value in expected.items():
                assert_allclose(gradients[name], value, rtol=1e-8, atol=1e-10, name=name)
        _descend(method, lr)
        if after is not None:
            after(step)
    state = method.state_dict()
    for name, value in renamed(golden, "after", names).items():
        assert_allclose(state[name], value, rtol=1e-8, atol=1e-10, name=name)


def load(method: nn.Module, golden: Golden, part: str, names: dict[str, str]) -> None:
    """Copy the authors' parameters and buffers into the method."""
    found = {name: torch.from_numpy(value) for name, value in renamed(golden, part, names).items()}
    missing = method.load_state_dict(found, strict=False)
    assert not missing.unexpected_keys


def renamed(golden: Golden, part: str, names: dict[str, str]) -> Golden:
    """Return the arrays of a part under the names that they have here."""
    found = {}
    for key, value in golden.items():
        name = key.removeprefix(f"{part}/")
        starts = [start for start in names if name.startswith(start)]
        if name != key and starts:
            found[names[starts[0]] + name.removeprefix(starts[0])] = value
    return found


def _assert_same(method: nn.Module, reference: nn.Module, of: Callable[[nn.Parameter], Tensor | None]) -> None:
    wanted = dict(reference.named_parameters())
    for name, parameter in method.named_parameters():
        found, expected = of(parameter), of(wanted[name])
        assert (found is None) == (expected is None), name
        if found is not None and expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10, msg=name)


@torch.no_grad()
def _descend(module: nn.Module, lr: float) -> None:
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.sub_(lr * parameter.grad)
