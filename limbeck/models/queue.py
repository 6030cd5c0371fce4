"""What remembers recent rows: it changes by a rule of its own, after the optimiser's step."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """The newest K rows of one or several streams, in rings under one pointer.

    What was pushed together stays at the same place in every stream, so that a distribution over the rows of one is a
    distribution over the rows of another. Starts with random unit rows, as MoCo does (facebookresearch/moco); integers
    start at -1. Nothing waits for the device.

    Args:
        rows: K.
        widths: of each stream by its name, [K D]; None for one integer per row, int64 [K].
    """

    pushed: Tensor  # [] int64, rows that were ever pushed

    def __init__(self, rows: int, widths: Mapping[str, int | None]) -> None:
        super().__init__()
        self.rows = rows
        for name, width in widths.items():
            self.register_buffer(name, torch.full((rows,), -1) if width is None else _unit_rows(rows, width))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self._streams = tuple(widths)

    def __getitem__(self, stream: str) -> Tensor:
        """The rows of a stream, oldest and newest anywhere: the ring itself, to be read and not written."""
        return self.get_buffer(stream)

    @torch.no_grad()
    def fill(self, stream: str, rows: Tensor) -> None:
        """Overwrites a stream with `rows`, over and over."""
        for part in self.get_buffer(stream).split(len(rows)):
            part.copy_(rows[: len(part)])

    @torch.no_grad()
    def push(self, news: Mapping[str, Tensor]) -> None:
        """Overwrites the oldest rows of every stream with as many new ones, of which the last K stay."""
        count = len(news[self._streams[0]])
        kept = min(count, self.rows)
        places = (self.pushed + torch.arange(count - kept, count, device=self.pushed.device)) % self.rows
        for name in self._streams:
            ring = self.get_buffer(name)
            ring[places] = news[name][count - kept :].to(ring.dtype)
        self.pushed += count


def _unit_rows(rows: int, width: int) -> Tensor:
    """Random ones, normalised in place: a long queue is the largest thing that a method has."""
    drawn = torch.randn(rows, width)
    return drawn.div_(drawn.norm(dim=1, keepdim=True))
