"""A teacher as methods meet it: asked live, or its answers read from a cache."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.types import Batch, Taught
from limbeck.data.augment.views import View
from limbeck.data.loader import RESIDENT_SHARE
from limbeck.methods.base import Teacher
from limbeck.teachers.cache import Cache, Vectors
from limbeck.teachers.frozen import Frozen

ALIKE = 0.999  # least cosine of a live answer and a kept one; float16 costs 1e-7 of it and bf16 networks 1e-4


class Answers(Teacher):
    """Unit vectors, less their centre if there is one.

    Args:
        frozen: the network.
        views: of a batch; the teacher sees those that are marked as its own.
        sample: unit vectors of some images of the store, [M D].
        centre: subtract the mean of the sample from every unit vector.
    """

    def __init__(self, frozen: Frozen, views: Sequence[View], sample: Tensor, *, centre: bool) -> None:
        self.frozen, self.seen = frozen, [view for view in views if view.teacher]
        self.dim, self.map_dim = frozen.dim, frozen.map_dim
        self._centre = sample.mean(0) if centre else None
        self.sample = self._centred(sample)

    def _centred(self, unit: Tensor) -> Tensor:
        if self._centre is None:
            return unit
        self._centre = self._centre.to(unit.device)
        return unit - self._centre


class Live(Answers):
    """Asks the network about the last views of a batch; with `maps` also for a map of what the student sees first."""

    def __init__(
        self, frozen: Frozen, views: Sequence[View], sample: Tensor, *, centre: bool, maps: bool = False
    ) -> None:
        super().__init__(frozen, views, sample, centre=centre)
        first = [maps and view.like == 0 and not view.mate for view in self.seen]
        self._mapped = first.index(True) if any(first) else None
        self._device: torch.device | None = None

    def __call__(self, batch: Batch) -> Taught:
        """A forward pass for every view."""
        if self._device != batch.rows.device:
            self._device = batch.rows.device
            self.frozen.network.to(self._device)
        views = batch.views[-len(self.seen) :]
        answers = [self.frozen.network(view, index == self._mapped, step=True) for index, view in enumerate(views)]
        vectors = tuple(self._centred(F.normalize(answer.vector, dim=1)) for answer in answers)
        return Taught(vectors, None if self._mapped is None else answers[self._mapped].map)


class Kept(Answers):
    """Reads what a cache keeps of every row; a mate's answer is that of the row that it is.

    On CUDA the kept vectors move to the device, where they take less than a quarter of its memory.

    Args:
        passes: of every draw that is repeated, by the number of the view, float16 [N D].
    """

    def __init__(
        self,
        frozen: Frozen,
        views: Sequence[View],
        sample: Tensor,
        passes: Sequence[dict[int, Vectors]],
        *,
        centre: bool,
    ) -> None:
        super().__init__(frozen, views, sample, centre=centre)
        self._passes = passes
        self._resident: list[dict[int, Tensor]] | None = None
        self._settled = False

    def __call__(self, batch: Batch) -> Taught:
        """Rows of the passes of this draw."""
        return Taught(tuple(self._centred(self._read(batch, view)) for view in self.seen))

    def _read(self, batch: Batch, view: View) -> Tensor:
        rows = batch.mates if view.mate else batch.rows
        assert rows is not None
        assert view.like is not None
        if not self._settled:
            self._resident, self._settled = self._on_device(rows.device), True
        if self._resident is not None:
            return F.normalize(self._resident[batch.draw][view.like][rows].float(), dim=1)
        kept = torch.from_numpy(self._passes[batch.draw][view.like][rows.cpu().numpy()])
        return F.normalize(kept.to(rows.device).float(), dim=1)

    def _on_device(self, device: torch.device) -> list[dict[int, Tensor]] | None:
        total = sum(vectors.nbytes for kept in self._passes for vectors in kept.values())
        if device.type != "cuda" or total > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return None
        return [{n: torch.from_numpy(np.array(v)).to(device) for n, v in kept.items()} for kept in self._passes]


def keep(cache: Cache, views: Sequence[View], seed: int, replay: int) -> list[dict[int, Vectors]]:
    """The passes over the store that `Kept` reads: `replay` draws of every view that the teacher sees."""
    numbered = {view.like: view for view in views if view.teacher and view.like is not None}
    size = cache.bytes(replay * len(numbered)) / 2**20
    cache.say(f"the answers to {replay} draw(s) of {len(numbered)} view(s) of every image take {size:,.0f} MiB")
    return [{n: cache.drawn(view, n, seed, draw) for n, view in numbered.items()} for draw in range(replay)]


def check_alike(live: Live, kept: Kept, batch: Batch) -> None:
    """UserError unless what is kept of the images of a batch is what the teacher says of them now."""
    for now, then in zip(live(batch).vectors, kept(batch).vectors, strict=True):
        alike = float(F.cosine_similarity(now, then, dim=1).min())
        if not alike >= ALIKE:
            raise UserError(
                f"a kept answer of the teacher has a cosine of {alike:.4f} with what it says now, below {ALIKE}: "
                "remove the cache, or take --teacher.replay 0 to ask it live"
            )
