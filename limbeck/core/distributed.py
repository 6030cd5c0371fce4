"""Collectives between processes that keep gradients right; with one process each of them is the identity.

A gathered tensor takes part in the loss of every process, so its gradient is the *sum* over processes of what each of
them sends back. DDP then averages over processes, and N processes give the gradient of one with the joined batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from limbeck.core.errors import UserError


def world_size() -> int:
    """Return the number of processes (1 when not distributed)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the index of this process (0 when not distributed)."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def peer_failure_as_user_error(otherwise: str) -> Iterator[None]:
    """Turn the error of a backend whose other process has ended into a UserError with the sentence `otherwise`.

    NCCL's has a class of its own; gloo's is a RuntimeError that names its source file.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise UserError(otherwise, code="process-ended") from error
        raise


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        blocks = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(blocks, x.contiguous())
        return torch.stack(blocks, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return local_rows(total)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def gather(x: Tensor) -> Tensor:
    """Gather the rows of all processes, [B D] -> [W*B D], in the order of the joined batch, differentiably.

    B is the same everywhere. A loader gives process r the rows r, r + W, r + 2 W, ... of a batch, so row i of process r
    is row i W + r here: what depends on the order of rows (slices, the end of a queue) is as in one process. Of rows
    that are stacked view by view, the result is stacked view by view too.
    """
    return x if world_size() == 1 else _Gather.apply(x)


def mean_over_processes(x: Tensor) -> Tensor:
    """Return the mean of `x` over all processes, which have it in the same shape, differentiably."""
    return x if world_size() == 1 else _Sum.apply(x) / world_size()


def local_rows(gathered: Tensor) -> Tensor:
    """Return the rows of this process among those of all: [W*B ...] -> [B ...]."""
    return gathered[rank() :: world_size()]


def local_indices(count: int, device: torch.device) -> Tensor:
    """Return the positions of the `count` rows of this process among those of all, int64 [count]."""
    return torch.arange(count, device=device) * world_size() + rank()


def broadcast_from_rank0(drawn: Tensor) -> Tensor:
    """Overwrite `drawn` with the random numbers of the first process, and return it."""
    if world_size() > 1:
        dist.broadcast(drawn, src=0)
    return drawn


class SyncedBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the rows of all processes, for devices that torch's own SyncBatchNorm does not support (the CPU).

    Two passes (mean, then centered squares), because E[x^2] - E[x]^2 cancels in float32.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() >= 2, f"BatchNorm needs [B C ...], got {tuple(input.shape)}"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize [B C ...] over every dimension but C."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        dims = [d for d in range(input.dim()) if d != 1]
        shape = [-1 if d == 1 else 1 for d in range(input.dim())]
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        count = x.numel() // x.shape[1] * world_size()
        mean = _Sum.apply(x.sum(dims)) / count
        centered = x - mean.view(shape)
        variance = _Sum.apply(centered.square().sum(dims)) / count
        self._remember(mean, variance * count / (count - 1))
        out = centered * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            for buffer, value in ((self.running_mean, mean), (self.running_var, variance)):
                assert buffer is not None
                buffer.lerp_(value.to(buffer.dtype), momentum)


def sync_batchnorm(module: nn.Module, device: torch.device) -> nn.Module:
    """Make every BatchNorm of `module` compute statistics over all processes (unchanged with one process)."""
    if world_size() == 1:
        return module
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(module)  # timm's keeps the activation of a BatchNormAct2d
        return converted
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            # Same parameters, buffers and keys; only `forward` differs, so the class is all that changes. timm's
            # BatchNormAct2d runs an activation after the norm and has no such stand-in.
            if type(child) not in (nn.BatchNorm1d, nn.BatchNorm2d):
                raise UserError(
                    f"{type(child).__name__} cannot be synchronized between processes on CPUs: use GPUs or one process",
                    code="batchnorm-not-synchronizable",
                )
            child.__class__ = SyncedBatchNorm
    return module
