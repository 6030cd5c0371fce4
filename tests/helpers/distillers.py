"""Feed the authors' numbers to distillers: given teacher outputs, given embeddings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.types import Batch, LossOutput, TeacherOutput
from limbeck.methods.base import QueueDistiller, Teacher
from limbeck.methods.config.base import DistillConfig
from tests.helpers.tiny import build, tiny_vit

EMPTY = Batch((torch.empty(0), torch.empty(0)), torch.empty(0, dtype=torch.int64))


class GivenTeacher(Teacher):
    """A teacher that is never called: its output goes to `distillation_loss` directly."""

    map_dim = 1

    def __init__(self, sample: Tensor) -> None:
        self.sample, self.dim = sample, sample.shape[1]

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Fail."""
        raise AssertionError


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Return the arrays that are numbers."""
    return {name: torch.as_tensor(value) for name, value in arrays.items() if value.dtype.kind != "U"}


def method_with(config: DistillConfig, queues: Mapping[str, Tensor]) -> Any:
    """Return the method in float64 with queues of these rows, [K D]; the first row is overwritten next."""
    sample = torch.randn(12, next(iter(queues.values())).shape[1])
    method = config.build_distiller(tiny_vit(), GivenTeacher(sample)).double()
    assert isinstance(method, QueueDistiller)
    for name, rows in queues.items():
        method.queue.register_buffer(name, rows.contiguous().clone())
    method.queue.num_enqueued.zero_()
    return method


def tiny_distiller(config: DistillConfig) -> Any:
    """Return the method in float64 around the smallest network; its queues are normalized again in float64."""
    torch.manual_seed(0)
    method = build(config, tiny_vit()).double()
    for rows in method.get_submodule("queue").buffers():
        if rows.dim() == 2:
            rows.copy_(F.normalize(rows, dim=1))
    return method


def check(loss: LossOutput, expected: Tensor, students: Mapping[Tensor, Tensor]) -> None:
    """Compare the value, and the gradient of each of the student's embeddings."""
    torch.testing.assert_close(loss.total, expected, rtol=0, atol=1e-10)
    found = torch.autograd.grad(loss.total, list(students))
    for gradient, wanted in zip(found, students.values(), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-10)


def same_gradients(method: Any, loss: Tensor, expected: Tensor) -> None:
    """Compare two losses, and their gradients of all trained parameters."""
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-11)
    trained = [p for p in method.parameters() if p.requires_grad]
    for pair in zip(*(torch.autograd.grad(value, trained) for value in (loss, expected)), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-7, atol=1e-10)


def check_teacher_is_apart(method: Any) -> None:
    """Check that nothing of the teacher is in the method's state, and that the queues start with its sample."""
    assert not [name for name in method.state_dict() if "teacher" in name and not name.startswith("queue.")]
    assert not [module for module in method.modules() if isinstance(module, Teacher)]
    sample = F.normalize(method.teacher.sample, dim=1)
    wanted = sample.repeat(2, 1)[: method.cfg.queue_size]
    for rows in (rows for name, rows in method.queue.named_buffers() if name in ("teacher", "keys", "local")):
        torch.testing.assert_close(rows, wanted.to(rows.dtype))
