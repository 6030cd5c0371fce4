"""Numbers of authors through a distiller: a teacher that is not asked, and steps whose embeddings are given."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.types import Batch, LossOutput, TeacherOutput
from limbeck.methods.base import DistillConfig, QueueDistiller, Teacher
from tests.helpers.tiny import build, tiny_vit

NONE = Batch((torch.empty(0), torch.empty(0)), torch.empty(0, dtype=torch.int64))


class Silent(Teacher):
    """Its answers are given to `learn` directly."""

    map_dim = 1

    def __init__(self, sample: Tensor) -> None:
        self.sample, self.dim = sample, sample.shape[1]

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Is not asked."""
        raise AssertionError


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The arrays that are numbers."""
    return {name: torch.as_tensor(value) for name, value in arrays.items() if value.dtype.kind != "U"}


def method_with(config: DistillConfig, queues: Mapping[str, Tensor]) -> Any:
    """The method in float64 with queues of these rows, [K D], before their first one is overwritten."""
    sample = torch.randn(12, next(iter(queues.values())).shape[1])
    method = config.build_distiller(tiny_vit(), Silent(sample)).double()
    assert isinstance(method, QueueDistiller)
    for name, rows in queues.items():
        method.queue.register_buffer(name, rows.contiguous().clone())
    method.queue.pushed.zero_()
    return method


def small(config: DistillConfig) -> Any:
    """The method in float64 around the smallest network; unit rows of float32 are not unit rows of float64."""
    torch.manual_seed(0)
    method = build(config, tiny_vit()).double()
    for rows in method.get_submodule("queue").buffers():
        if rows.dim() == 2:
            rows.copy_(F.normalize(rows, dim=1))
    return method


def check(loss: LossOutput, expected: Tensor, students: Mapping[Tensor, Tensor]) -> None:
    """The value, and the gradient of each of the student's embeddings."""
    torch.testing.assert_close(loss.total, expected, rtol=0, atol=1e-10)
    found = torch.autograd.grad(loss.total, list(students))
    for gradient, theirs in zip(found, students.values(), strict=True):
        torch.testing.assert_close(gradient, theirs, rtol=0, atol=1e-10)


def same_gradients(method: Any, loss: Tensor, expected: Tensor) -> None:
    """Two losses, and their gradients of everything that learns."""
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-11)
    learnt = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(*(torch.autograd.grad(value, learnt) for value in (loss, expected)), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-7, atol=1e-10)


def untouched(method: Any) -> None:
    """Nothing of the teacher is in the method's state, and the queue starts with its sample, again and again."""
    assert not [name for name in method.state_dict() if "teacher" in name and not name.startswith("queue.")]
    assert not [module for module in method.modules() if isinstance(module, Teacher)]
    sample = F.normalize(method.teacher.sample, dim=1)
    wanted = sample.repeat(2, 1)[: method.cfg.queue]
    for rows in (rows for name, rows in method.queue.named_buffers() if name in ("teacher", "keys", "small")):
        torch.testing.assert_close(rows, wanted.to(rows.dtype))
