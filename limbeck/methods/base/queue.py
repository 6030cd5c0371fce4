"""Methods that compare with the teacher's embeddings of recent images."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch.nn.functional as F
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.types import DataContext, Encoder, LossOutput, StepInfo
from limbeck.methods.base.ema import EMAConfig, EMAHost
from limbeck.models.queue import Queue


def resolve_queue_size(rows: int, default: int, context: DataContext, most: int | None = None) -> int:
    """Rows of a queue: `rows`, or half of the store where the default is asked for and is more than `most`.

    `most` is the whole store unless given. UserError where another number would hold an image twice, or less than the
    batch that is pushed at once.
    """
    if rows == default > (context.num_images if most is None else most):
        return max(context.batch_size, context.num_images // 2)
    if rows > context.num_images:
        raise UserError(
            f"a queue of {rows:,} rows is larger than the store of {context.num_images:,} images; "
            f"take at most {context.num_images:,} (half of it, {context.num_images // 2:,}, is a good start)"
        )
    if rows < context.batch_size:
        raise UserError(
            f"a queue of {rows:,} rows is smaller than a batch of {context.batch_size:,}; take at least {context.batch_size:,}"
        )
    return rows


def enqueue_normalized(queue: Queue, new_rows: dict[str, Tensor]) -> None:
    """Pushes embeddings as unit rows, normalised in the queue's precision: they may come in half of it."""
    queue.push({name: F.normalize(rows.to(queue[name].dtype), dim=1) for name, rows in new_rows.items()})


@dataclass(frozen=True, kw_only=True)
class QueueConfig(EMAConfig):
    """A student, a slow teacher, and a queue of the teacher's embeddings."""

    head_bias: ClassVar[bool] = True
    views: str = "mocov2"
    """Preset of augmentations (docs/data.md); the teacher sees the last view."""
    queue: int = 65536
    """Rows that the queue holds, the newest of all processes; by default no more than half of a smaller store."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    momentum: float = 0.999
    """Momentum of the teacher."""
    momentum_schedule: Literal["cosine", "constant"] = "constant"
    """Rise to 1 over the run along a half-cosine, or stay."""

    def resolve(self, context: DataContext) -> Self:
        """With a queue that suits the store and the batch."""
        return replace(self, queue=resolve_queue_size(self.queue, type(self).queue, context))


class QueueHost(EMAHost):
    """A queue of the teacher's keys, which `forward` reads before `after_step` pushes the batch.

    A step's memory has the keys of every stream, [W*B D] and of any length; the queue holds unit rows.
    """

    cfg: QueueConfig
    queue_names: tuple[str, ...] = ("keys",)

    def __init__(self, backbone: Encoder, cfg: QueueConfig) -> None:
        super().__init__(backbone, cfg)
        self.queue = Queue(cfg.queue, dict.fromkeys(self.queue_names, cfg.dim))

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Moves the teacher and pushes the keys of the step."""
        super().after_step(loss, step_info)
        enqueue_normalized(self.queue, loss.memory)

    def bank(self, stream: str = "keys") -> Tensor:
        """The queue's keys, unit rows [K D]."""
        return self.queue[stream]
