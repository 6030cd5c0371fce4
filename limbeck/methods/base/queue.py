"""Methods that compare with the embeddings of recent images, which a queue stores."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.types import DataContext, Encoder, LossOutput, StepInfo
from limbeck.methods.base.ema import EMAConfig, EMAHost
from limbeck.models.queue import Queue


def resolve_queue_size(rows: int, default: int, context: DataContext, most: int | None = None) -> int:
    """Return the rows of a queue: `rows`, or half of the store if `rows` is the default and exceeds `most`.

    `most` is the whole store unless given.

    Raises:
        UserError: any other number would hold an image twice, or less than the batch that is enqueued at once.
    """
    images, batch = context.num_images, context.batch_size
    if rows == default > (images if most is None else most):
        return max(batch, images // 2)
    if rows > images:
        message = f"a queue of {rows:,} rows is larger than the store of {images:,} images; take at most {images:,}"
        raise UserError(f"{message} (half of it, {images // 2:,}, is a good start)", code="queue-too-large")
    if rows < batch:
        message = f"a queue of {rows:,} rows is smaller than a batch of {batch:,}; take at least {batch:,}"
        raise UserError(message, code="queue-too-small")
    return rows


def enqueue_normalized(queue: Queue, new_rows: Mapping[str, Tensor]) -> None:
    """Enqueue embeddings as unit rows, normalized in the queue's precision: they may come in half precision."""
    queue.enqueue({name: F.normalize(rows.to(queue[name].dtype), dim=1) for name, rows in new_rows.items()})


@dataclass(frozen=True, kw_only=True)
class QueueConfig(EMAConfig):
    """Configuration of a host with an EMA encoder and a queue of its embeddings."""

    head_bias: ClassVar[bool] = True
    views: str = "mocov2"
    """Preset of augmentations (docs/data.md); the last view goes to the EMA encoder."""
    queue_size: int = 65536
    """Rows of the queue, the newest of all processes; by default at most half of a smaller store."""
    projector_layers: int = 2
    """Linear layers of the projector."""
    trailing_norm: bool = False
    """End the projector with a BatchNorm without scale and shift."""
    ema_momentum: float = 0.999
    """Momentum of the EMA encoder."""
    ema_schedule: Literal["cosine", "constant"] = "constant"
    """Raise the momentum to 1 over the run along a half-cosine, or keep it."""

    def resolve(self, context: DataContext) -> Self:
        """Return this configuration with a queue that suits the store and the batch."""
        return replace(self, queue_size=resolve_queue_size(self.queue_size, type(self).queue_size, context))


class QueueHost(EMAHost):
    """A host with queues of the EMA encoder's keys, which `forward` reads before `after_step` enqueues the batch.

    `LossOutput.memory` carries the keys of every queue, rows [W*B D] of any length; the queues hold unit rows.
    """

    cfg: QueueConfig
    queue_names: ClassVar[tuple[str, ...]] = ("keys",)

    def __init__(self, backbone: Encoder, cfg: QueueConfig) -> None:
        super().__init__(backbone, cfg)
        self.queue = Queue(cfg.queue_size, dict.fromkeys(self.queue_names, cfg.dim))

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder and enqueue the keys of the step."""
        super().after_step(loss, step_info)
        enqueue_normalized(self.queue, loss.memory)

    def bank(self, name: str = "keys") -> Float[Tensor, "K D"]:
        """Return the unit rows of a queue."""
        return self.queue[name]
