"""Queues of recent rows, such as the keys of MoCo, updated after the optimizer's step."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Queue(nn.Module):
    """The newest K rows of one or several named queues, as ring buffers that share one pointer.

    Rows that are enqueued together lie at the same place in every queue, so a distribution over the rows of one is a
    distribution over the rows of another. A queue starts with random unit rows, as MoCo's does (facebookresearch/moco),
    a queue of integers with -1. Nothing waits for the device.

    Args:
        rows: K.
        widths: width D of each queue [K D] by its name; None for one integer per row, int64 [K].
    """

    num_enqueued: Tensor  # [] int64, rows that were ever enqueued

    def __init__(self, rows: int, widths: Mapping[str, int | None]) -> None:
        super().__init__()
        self.rows = rows
        for name, width in widths.items():
            self.register_buffer(name, torch.full((rows,), -1) if width is None else _unit_rows(rows, width))
        self.register_buffer("num_enqueued", torch.zeros((), dtype=torch.int64))
        self._names = tuple(widths)

    def __getitem__(self, name: str) -> Tensor:
        """Return the ring buffer of a queue, in no order of age, to be read and not written."""
        return self.get_buffer(name)

    @torch.no_grad()
    def fill(self, name: str, rows: Float[Tensor, "M D"]) -> None:
        """Overwrite a queue with `rows`, repeated as often as they fit."""
        for part in self.get_buffer(name).split(len(rows)):
            part.copy_(rows[: len(part)])

    @torch.no_grad()
    def enqueue(self, new_rows: Mapping[str, Tensor]) -> None:
        """Overwrite the oldest rows of every queue with as many new ones; of more than K, the last K stay."""
        count = len(new_rows[self._names[0]])
        written = min(count, self.rows)
        ages = torch.arange(count - written, count, device=self.num_enqueued.device)
        places = (self.num_enqueued + ages) % self.rows
        for name in self._names:
            ring = self.get_buffer(name)
            ring[places] = new_rows[name][count - written :].to(ring.dtype)
        self.num_enqueued += count


def _unit_rows(rows: int, width: int) -> Float[Tensor, "K D"]:
    """Draw random unit rows, normalized in place: a long queue is the largest tensor that a method owns."""
    drawn = torch.randn(rows, width)
    return drawn.div_(drawn.norm(dim=1, keepdim=True))
