"""Methods that compare with the embeddings of recent images, which a queue stores."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.core.types import Encoder, LossOutput, StepInfo
from limbeck.methods.base.ema_host import EMAHost
from limbeck.methods.config.base import QueueConfig
from limbeck.models.queue import Queue


def enqueue_normalized(queue: Queue, new_rows: Mapping[str, Tensor]) -> None:
    """Enqueue embeddings as unit rows, normalized in the queue's precision: they may come in half precision."""
    queue.enqueue({name: F.normalize(rows.to(queue[name].dtype), dim=1) for name, rows in new_rows.items()})


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
