"""The output of a teacher for a batch, as methods receive it: from a forward pass, or from the cache."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.text import format_bytes, plural
from limbeck.core.types import Batch, TeacherOutput
from limbeck.data.loader import RESIDENT_SHARE
from limbeck.data.sampling import DrawSchedule, ViewSpec
from limbeck.methods.base import Teacher
from limbeck.teachers.cache import FeatureCache, Maps, Vectors
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.teachers.map_code import encode_maps
from limbeck.teachers.side_by_side import SideBySide

logger = logging.getLogger(__name__)

WHOLE_IMAGE = -1  # index of the features of unaugmented images in a pass, where those of a draw have its number
MIN_MAP_COSINE = 0.99  # of coded maps, on average over the positions
MIN_COSINE = 0.999  # of a cached and a live vector; float16 costs 1e-7 of it and bf16 networks 1e-4


class TeacherOutputs(Teacher):
    """Unit vectors, minus their center if the teacher is centered.

    Args:
        teacher: the network and its preprocessing.
        views: the views of a batch; the teacher gets those that are marked as its own.
        features: unit vectors of some images of the store, [M D].
        center: subtract the mean of `features` from every unit vector.
    """

    def __init__(
        self, teacher: LoadedTeacher, views: Sequence[ViewSpec], features: Float[Tensor, "M D"], *, center: bool
    ) -> None:
        self.loaded, self.views = teacher, [view for view in views if view.network == "teacher"]
        self.dim, self.map_dim = features.shape[1], teacher.map_dim
        self._center = features.mean(0) if center else None
        self.sample = self._centered(features)

    def _centered(self, unit: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        if self._center is None:
            return unit
        self._center = self._center.to(unit.device, non_blocking=True)
        return unit - self._center


class LiveTeacher(TeacherOutputs):
    """Runs the network on the teacher's views of a batch, which come last.

    With `feature_map`, the output has the feature map of the student's first view, too.
    """

    def __init__(
        self,
        teacher: LoadedTeacher,
        views: Sequence[ViewSpec],
        features: Float[Tensor, "M D"],
        *,
        center: bool,
        feature_map: bool = False,
    ) -> None:
        super().__init__(teacher, views, features, center=center)
        first = [feature_map and view.crop_of == 0 and view.image == "own" for view in self.views]
        self._mapped = first.index(True) if any(first) else None
        self._device: torch.device | None = None

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Run one forward pass for every view of the teacher."""
        network = self.loaded.network
        if self._device != batch.indices.device:
            self._device = batch.indices.device
            network.to(self._device)
        views = batch.views[-len(self.views) :]
        outputs = [network(view, index == self._mapped, training_step=True) for index, view in enumerate(views)]
        vectors = tuple(self._centered(F.normalize(output.vector, dim=1)) for output in outputs)
        return TeacherOutput(vectors, None if self._mapped is None else outputs[self._mapped].feature_map)


class CachedTeacher(TeacherOutputs):
    """Reads the features of the images, and of their partners, from a cache.

    On CUDA, cached features that take less than a quarter of the free memory are moved to the device.

    Args:
        passes: for every epoch of the period of the views, the cached features by index of the draw; a view that is a
            crop of none is the whole image.
        maps: for every epoch likewise, the coded feature maps of the student's first view; none without a dense term.
    """

    def __init__(
        self,
        teacher: LoadedTeacher,
        views: Sequence[ViewSpec],
        features: Float[Tensor, "M D"],
        passes: Sequence[Mapping[int, Vectors | SideBySide]],
        *,
        center: bool,
        maps: Sequence[Maps] = (),
    ) -> None:
        super().__init__(teacher, views, features, center=center)
        self._passes, self._maps = passes, maps
        self.map_dim = maps[0].shape[1] if maps else 0
        self._device: torch.device | None = None
        self._resident: list[dict[int, Tensor]] | None = None

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Read the rows of the batch from the passes of its epoch."""
        if self._device != batch.indices.device:
            self._device, self._resident = batch.indices.device, self._on_device(batch.indices.device)
        return TeacherOutput(tuple(self._centered(self._read(batch, view)) for view in self.views), self._map(batch))

    def _map(self, batch: Batch) -> Float[Tensor, "B K H W"] | None:
        return _copied(self._maps[batch.view_epoch][batch.host_rows[0]], batch.indices.device) if self._maps else None

    def _read(self, batch: Batch, view: ViewSpec) -> Float[Tensor, "B D"]:
        rows = batch.indices if view.image == "own" else batch.partner_indices
        assert rows is not None, "a view of the partner needs bags"
        draw = WHOLE_IMAGE if view.crop_of is None else view.crop_of
        if self._resident is not None:
            return F.normalize(self._resident[batch.view_epoch][draw][rows].float(), dim=1)
        host_rows = batch.host_rows[0 if view.image == "own" else 1]
        return F.normalize(_copied(self._passes[batch.view_epoch][draw][host_rows], rows.device), dim=1)

    def _on_device(self, device: torch.device) -> list[dict[int, Tensor]] | None:
        total = sum(vectors.nbytes for passes in self._passes for vectors in passes.values())
        if device.type != "cuda" or total > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return None
        return [{i: torch.from_numpy(np.array(v[:])).to(device) for i, v in passes.items()} for passes in self._passes]


def _copied(rows: NDArray[Any], device: torch.device) -> Tensor:
    """Return rows on the device, in float32, without waiting for the copy."""
    found = torch.from_numpy(rows)
    return (found.pin_memory() if device.type == "cuda" else found).to(device, non_blocking=True).float()


def cache_maps(cache: FeatureCache, schedule: DrawSchedule) -> list[Maps]:
    """Return the feature maps of the student's first view, in every epoch of its period."""
    view = schedule.teacher_views()[0]
    return [cache.view_maps(view, 0, *schedule.seed_and_epoch(0, epoch)) for epoch in range(schedule.view_period)]


def cache_views(cache: FeatureCache, schedule: DrawSchedule) -> list[dict[int, Vectors]]:
    """Return the passes that `CachedTeacher` reads: every view of the teacher, in every epoch of their period."""
    views = schedule.teacher_views()
    logger.info(
        "cached teacher features of %s x %s per image take %s",
        plural(schedule.view_period, "draw"),
        plural(len(views), "view"),
        format_bytes(cache.bytes(schedule.view_period * len(views))),
    )
    return [
        {
            index: cache.view_features(view, index, *schedule.seed_and_epoch(index, epoch))
            for index, view in views.items()
        }
        for epoch in range(schedule.view_period)
    ]


def check_cache(
    live: LiveTeacher, cached: CachedTeacher, batch: Batch, axes: Float[Tensor, "C K"] | None = None
) -> None:
    """Raise UserError unless the cached features of a batch are those that the teacher computes now.

    With `axes`, those of the cached maps, the maps are compared, too.
    """
    found, stored = live(batch), cached(batch)
    pairs = [(*pair, MIN_COSINE) for pair in zip(found.vectors, stored.vectors, strict=True)]
    if axes is not None and found.feature_map is not None and stored.feature_map is not None:
        coded = encode_maps(found.feature_map, axes.to(found.feature_map.device)).float()
        pairs.append((coded, stored.feature_map, MIN_MAP_COSINE))
    for now, then, least in pairs:
        cosine = float(F.cosine_similarity(now, then, dim=1).reshape(len(now), -1).mean(1).min())
        if not cosine >= least:
            raise UserError(
                f"a cached feature vector of the teacher has a cosine of {cosine:.4f} with the one computed now, below "
                f"{least}: delete the cache, or run the teacher in every step (--teacher.cached-views 0)",
                code="stale-cache",
            )
