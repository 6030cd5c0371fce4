"""A teacher as methods meet it: asked live, or its answers read from a cache."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.text import format_bytes
from limbeck.core.types import Batch, TeacherOutput
from limbeck.data.loader import RESIDENT_SHARE
from limbeck.data.sampling import DrawSchedule, ViewSpec
from limbeck.methods.base import Teacher
from limbeck.teachers.cache import Cache, Vectors
from limbeck.teachers.frozen import LoadedTeacher

ALIKE = 0.999  # least cosine of a live answer and a kept one; float16 costs 1e-7 of it and bf16 networks 1e-4


class TeacherOutputs(Teacher):
    """Unit vectors, less their centre if there is one.

    Args:
        frozen: the network.
        views: of a batch; the teacher sees those that are marked as its own.
        sample: unit vectors of some images of the store, [M D].
        centre: subtract the mean of the sample from every unit vector.
    """

    def __init__(self, frozen: LoadedTeacher, views: Sequence[ViewSpec], sample: Tensor, *, center: bool) -> None:
        self.frozen, self.seen = frozen, [view for view in views if view.network == "teacher"]
        self.dim, self.map_dim = frozen.dim, frozen.map_dim
        self._centre = sample.mean(0) if center else None
        self.sample = self._centred(sample)

    def _centred(self, unit: Tensor) -> Tensor:
        if self._centre is None:
            return unit
        self._centre = self._centre.to(unit.device)
        return unit - self._centre


class LiveTeacher(TeacherOutputs):
    """Asks the network about the last views of a batch; with `maps` also for a map of what the student sees first."""

    def __init__(
        self, frozen: LoadedTeacher, views: Sequence[ViewSpec], sample: Tensor, *, center: bool, maps: bool = False
    ) -> None:
        super().__init__(frozen, views, sample, center=center)
        first = [maps and view.crop_of == 0 and view.image == "own" for view in self.seen]
        self._mapped = first.index(True) if any(first) else None
        self._device: torch.device | None = None

    def __call__(self, batch: Batch) -> TeacherOutput:
        """A forward pass for every view."""
        if self._device != batch.indices.device:
            self._device = batch.indices.device
            self.frozen.network.to(self._device)
        views = batch.views[-len(self.seen) :]
        answers = [self.frozen.network(view, index == self._mapped, step=True) for index, view in enumerate(views)]
        vectors = tuple(self._centred(F.normalize(answer.vector, dim=1)) for answer in answers)
        return TeacherOutput(vectors, None if self._mapped is None else answers[self._mapped].map)


class Kept(TeacherOutputs):
    """Reads what a cache keeps of every row; a mate's answer is that of the row that it is.

    On CUDA the kept vectors move to the device, where they take less than a quarter of its memory.

    Args:
        passes: of every draw that is repeated, by the number of the view, float16 [N D].
    """

    def __init__(
        self,
        frozen: LoadedTeacher,
        views: Sequence[ViewSpec],
        sample: Tensor,
        passes: Sequence[dict[int, Vectors]],
        *,
        center: bool,
    ) -> None:
        super().__init__(frozen, views, sample, center=center)
        self._passes = passes
        self._resident: list[dict[int, Tensor]] | None = None
        self._settled = False

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Rows of the passes of this draw."""
        return TeacherOutput(tuple(self._centred(self._read(batch, view)) for view in self.seen))

    def _read(self, batch: Batch, view: ViewSpec) -> Tensor:
        rows = batch.indices if view.image == "own" else batch.partner_indices
        assert rows is not None
        assert view.crop_of is not None
        if not self._settled:
            self._resident, self._settled = self._on_device(rows.device), True
        if self._resident is not None:
            return F.normalize(self._resident[batch.view_epoch][view.crop_of][rows].float(), dim=1)
        kept = torch.from_numpy(self._passes[batch.view_epoch][view.crop_of][rows.cpu().numpy()])
        return F.normalize(kept.to(rows.device).float(), dim=1)

    def _on_device(self, device: torch.device) -> list[dict[int, Tensor]] | None:
        total = sum(vectors.nbytes for kept in self._passes for vectors in kept.values())
        if device.type != "cuda" or total > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return None
        return [{n: torch.from_numpy(np.array(v)).to(device) for n, v in kept.items()} for kept in self._passes]


def keep(cache: Cache, schedule: DrawSchedule) -> list[dict[int, Vectors]]:
    """The passes over the store that `Kept` reads: every view that the teacher sees, in every epoch of its period."""
    draws = schedule.teacher_views()
    size = format_bytes(cache.bytes(schedule.view_period * len(draws)))
    cache.say(f"the answers to {schedule.view_period} draw(s) of {len(draws)} view(s) of every image take {size}")
    return [
        {index: cache.drawn(view, index, *schedule.seed_and_epoch(index, epoch)) for index, view in draws.items()}
        for epoch in range(schedule.view_period)
    ]


def check_alike(live: LiveTeacher, kept: Kept, batch: Batch) -> None:
    """UserError unless what is kept of the images of a batch is what the teacher says of them now."""
    for now, then in zip(live(batch).vectors, kept(batch).vectors, strict=True):
        alike = float(F.cosine_similarity(now, then, dim=1).min())
        if not alike >= ALIKE:
            raise UserError(
                f"a kept answer of the teacher has a cosine of {alike:.4f} with what it says now, below {ALIKE}: "
                "remove the cache, or take --teacher.cached-views 0 to ask it live"
            )
