"""Prepare a distillation run: hold out images, compute teacher features (live or cached), build the bags."""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.devices import local_device
from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.run_folder import TEACHER
from limbeck.core.types import BagSpec, Dataset
from limbeck.data.loader import Loader
from limbeck.data.sampling import SamplingPlan, ViewSpec
from limbeck.data.store.store import Store
from limbeck.methods import DistillConfig
from limbeck.methods.base import DistillationInputs, Teacher
from limbeck.methods.base.temperature import MAX_RESULTANT_LENGTH, mean_resultant_length
from limbeck.neighbors.bags import cluster_bags, kmeans, knn_bags
from limbeck.neighbors.graph import build_graph
from limbeck.neighbors.statistics import graph_statistics
from limbeck.teachers.cache import FeatureCache, Vectors
from limbeck.teachers.config import PATCH_FILTERS, START_TEACHER, TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher, teacher_features
from limbeck.teachers.outputs import WHOLE_IMAGE, CachedTeacher, LiveTeacher, cache_maps, cache_views, check_cache
from limbeck.teachers.side_by_side import SideBySide, scales_of, side_by_side
from limbeck.train.config import TrainConfig

logger = logging.getLogger(__name__)

SAMPLE_IMAGES = 1024  # training images; the defaults are chosen from their teacher features
VAL_IMAGES, VAL_SHARE = 1000, 10  # images, or a tenth of a store of fewer than ten times as many
START_VAL_IMAGES, START_VAL_SHARE = 2000, 5  # where they decide between the start and what was trained
COMPARED_IMAGES = 16  # images; their cached features are compared with live ones


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherContext:
    """A teacher, and what is known about it for one store before the student is built."""

    cfg: TeacherConfig
    """Settings, with what the source states and what was chosen filled in."""
    teacher: LoadedTeacher
    store: Dataset
    train_indices: NDArray[np.int64]
    """Rows of the data to train on, ascending."""
    val_indices: NDArray[np.int64]
    """The other rows, on which student and teacher are compared."""
    features: Float[Tensor, "M D"]
    """Unit feature vectors of some of the training images."""
    device: torch.device
    seed: int

    @property
    def center(self) -> bool:
        """Whether the mean of `features` is subtracted from unit vectors."""
        return bool(self.cfg.center)

    @property
    def centered_features(self) -> Float[Tensor, "M D"]:
        """`features`, minus their mean if the teacher is centered: what the method compares with."""
        return self.features - self.features.mean(0) if self.center else self.features


class ImageTargets(NamedTuple):
    """A teacher's vectors of whole images, [N D], and the rows of the store that the student learns from, ascending."""

    vectors: Vectors | SideBySide
    rows: NDArray[np.int64]


def prepare_teacher(teacher: LoadedTeacher, store: Dataset, training: TrainConfig) -> Resolved[TeacherContext]:
    """Hold out images, compute features of some of the others, and choose what depends on them.

    Raises:
        UserError: more images are to be held out than there are.
    """
    is_start = teacher.cfg.name == START_TEACHER
    val_indices, train_indices = _split(len(store), teacher.cfg.val_images, training.seed, is_start=is_start)
    device = local_device(training.accelerator)
    sampled = np.sort(np.random.default_rng(training.seed).permutation(train_indices)[:SAMPLE_IMAGES])
    teacher, features = _sample(teacher, store, sampled, device)
    center, reasons = (False, []) if is_start else _resolve_center(teacher, features)
    whole = is_start or bool(teacher.further) or teacher.cfg.name == PATCH_FILTERS
    targets = teacher.cfg.targets or ("image" if whole else "view")
    cfg = replace(_resolve_paths(teacher.cfg), val_images=len(val_indices), center=center, targets=targets)
    digests = tuple(one.digest for one in teacher.further)
    context = TeacherContext(
        cfg=replace(cfg, digest=teacher.digest, further_digests=digests, license=_licenses(teacher)),
        teacher=teacher,
        store=store,
        train_indices=train_indices,
        val_indices=val_indices,
        features=features,
        device=device,
        seed=training.seed,
    )
    return Resolved(context, reasons)


def _sample(
    teacher: LoadedTeacher, store: Dataset, rows: NDArray[np.int64], device: torch.device
) -> tuple[LoadedTeacher, Float[Tensor, "M D"]]:
    """Return the teacher, with the scales of several, and its unit vectors of some images."""
    found = [
        teacher_features(member, store, rows, device=device, description="teacher features of a sample").cpu()
        for member in teacher.members
    ]
    if not teacher.further:
        return teacher, F.normalize(found[0], dim=1)
    teacher = replace(teacher, cfg=replace(teacher.cfg, scales=teacher.cfg.scales or scales_of(found)))
    return teacher, F.normalize(side_by_side(found, teacher.scales), dim=1)


def _licenses(teacher: LoadedTeacher) -> str:
    """Return the licenses that the sources of all teachers state."""
    return ", ".join(dict.fromkeys(member.license for member in teacher.members if member.license))


def build_distillation_inputs(
    context: TeacherContext, method: DistillConfig, views: tuple[Any, ...], run: Path, ends: float = math.inf
) -> DistillationInputs:
    """Return the teacher's output, the views and the sampling plan for a method; computes what has to be cached.

    The `views` are in the terms of the loader: `ViewSpec`s of images, or `NetworkView`s of other data.

    Raises:
        UserError: the cache is that of another teacher or store, what is cached takes longer than until `ends`, or a
            dense term has no feature maps to compare.
    """
    _check_feature_maps(context, method)
    views = tuple(view if view.network == "student" else context.teacher.own_view(view) for view in views)
    center, spec = context.center, method.bag_spec()
    live = LiveTeacher(context.teacher, views, context.features, center=center, feature_map=method.dense_weight > 0)
    sampling = SamplingPlan(indices=context.train_indices)
    whole = context.cfg.targets == "image"
    if not (spec or whole or context.cfg.cached_views):
        return DistillationInputs(live, views, sampling)
    caches = _caches(context, run, ends)
    cache = caches[0]
    if spec:
        _check_bags(context.teacher)
        sampling = sampling._replace(bags=_build_bags(context, cache, spec))
    if whole:
        views = tuple(replace(view, crop_of=None) if view.network == "teacher" else view for view in views)
        passes = [{WHOLE_IMAGE: _image_vectors(context, caches)}]
        teacher = CachedTeacher(context.teacher, views, context.features, passes, center=center)
        return DistillationInputs(teacher, views, sampling._replace(view_period=1))
    if not context.cfg.cached_views:
        return DistillationInputs(live, views, sampling)
    sampling = sampling._replace(view_period=context.cfg.cached_views)
    has_maps = method.dense_weight > 0
    return DistillationInputs(_cached_teacher(context, cache, live, views, sampling, has_maps), views, sampling)


def image_targets(context: TeacherContext, run: Path) -> ImageTargets | None:
    """Return the vectors of whole images that a student learned from, where its targets were such vectors."""
    if context.cfg.targets != "image":
        return None
    return ImageTargets(_image_vectors(context, _caches(context, run)), context.train_indices)


def _caches(context: TeacherContext, run: Path, ends: float = math.inf) -> list[FeatureCache]:
    """Open the cache of every teacher."""
    return [
        FeatureCache(_cache_folder(context, member, run), member, context.store, context.device, ends)
        for member in context.teacher.members
    ]


def _image_vectors(context: TeacherContext, caches: list[FeatureCache]) -> Vectors | SideBySide:
    """Return the vectors of whole images, of several teachers side by side; what is not in a cache is computed."""
    rows = [cache.features() for cache in caches]
    return SideBySide(rows, context.teacher.scales) if context.teacher.further else rows[0]


def _cached_teacher(
    context: TeacherContext,
    cache: FeatureCache,
    live: LiveTeacher,
    views: tuple[ViewSpec, ...],
    sampling: SamplingPlan,
    has_maps: bool,
) -> Teacher:
    """Compute the cached features, with maps of the student's first view, and compare some of them with live ones."""
    assert isinstance(context.store, Store), "draws of views are cached of images"
    some = context.train_indices[:: -(-len(context.train_indices) // COMPARED_IMAGES)]
    loader = Loader(context.store, views, len(some), seed=context.seed, device=context.device, sampling=sampling)
    maps = cache_maps(cache, loader.schedule) if has_maps else []  # the same passes make the vectors
    passes = cache_views(cache, loader.schedule)
    cached = CachedTeacher(context.teacher, views, context.features, passes, center=context.center, maps=maps)
    check_cache(live, cached, loader.fixed_batch(some, teacher_views=True), cache.map_axes() if has_maps else None)
    return cached


def _check_bags(teacher: LoadedTeacher) -> None:
    """Raise UserError if bags shall be found by the vectors of several teachers."""
    if teacher.further:
        raise UserError(
            "the bags of this method are neighbors in the space of one teacher: leave out --teacher.further "
            f"{' '.join(teacher.cfg.further)}, or use --method simreg",
            code="teacher-further",
        )


def _resolve_center(teacher: LoadedTeacher, features: Float[Tensor, "M D"]) -> tuple[bool, list[str]]:
    if teacher.cfg.center is not None:
        return teacher.cfg.center, []
    if teacher.further:
        shares = ", ".join(
            f"{member.source} x {scale:.2f}" for member, scale in zip(teacher.members, teacher.scales, strict=True)
        )
        return True, [f"unit vectors of {len(teacher.members)} teachers side by side, centered: {shares}"]
    length = mean_resultant_length(features)
    if length <= MAX_RESULTANT_LENGTH:
        reason = f"teacher features are spread (norm of the mean unit vector {length:.2f}): not centering them"
        return False, [reason]
    return True, [
        f"teacher features are anisotropic (norm of the mean unit vector {length:.2f} > {MAX_RESULTANT_LENGTH}): "
        "centering them"
    ]


def _resolve_paths(cfg: TeacherConfig) -> TeacherConfig:
    """Make paths absolute, as that of a run's store is: the run may be resumed from another folder."""
    name, *further = (str(Path(name).absolute()) if Path(name).is_dir() else name for name in cfg.names)
    return replace(cfg, name=name, further=tuple(further), weights=_absolute(cfg.weights), cache=_absolute(cfg.cache))


def _absolute(path: str | None) -> str | None:
    return path if path is None else str(Path(path).absolute())


def _check_feature_maps(context: TeacherContext, method: DistillConfig) -> None:
    """Raise UserError if a dense term has no feature maps to compare."""
    if method.dense_weight and not context.teacher.map_dim:
        raise UserError(
            f"the teacher {context.teacher.source} has no feature maps, which --method.dense-weight "
            f"{method.dense_weight:g} compares: leave --method.dense-weight out",
            code="no-feature-maps",
        )
    if method.dense_weight and context.cfg.targets == "image":
        raise UserError(
            f"the map of a whole image has other positions than that of the student's crop, and --method.dense-weight "
            f"{method.dense_weight:g} compares them: set --teacher.targets to view, with --teacher.cached-views if the "
            "teacher shall not run in every step",
            code="no-feature-maps",
        )


def _split(
    count: int, requested: int | None, seed: int, *, is_start: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that are held out, drawn with the seed, and the others; both ascending."""
    most, share = (START_VAL_IMAGES, START_VAL_SHARE) if is_start else (VAL_IMAGES, VAL_SHARE)
    held_out = min(most, count // share) if requested is None else requested
    if held_out >= count:
        raise UserError(
            f"teacher.val_images is {held_out} and the store has {count} images: choose at most {count // 2}",
            code="val-images-too-many",
        )
    order = np.random.default_rng((seed, 1)).permutation(count)
    return np.sort(order[:held_out]), np.sort(order[held_out:])


def _cache_folder(context: TeacherContext, teacher: LoadedTeacher, run: Path) -> Path:
    """Return the folder in the settings, one next to the store, or one in the run if the images are in memory.

    The first and the second have a folder for each of several teachers.
    """
    if context.cfg.cache is None and context.store.path is not None:
        return Path(f"{context.store.path}.teachers") / f"{teacher.digest[:12]}-{context.store.digest[:12]}"
    folder = run / TEACHER if context.cfg.cache is None else Path(context.cfg.cache)
    return folder / teacher.digest[:12] if context.teacher.further else folder


def _build_bags(context: TeacherContext, cache: FeatureCache, spec: BagSpec) -> NDArray[np.int32]:
    """Return the bags of every row, [N K]; a row that is held out is in no bag but its own, alone."""
    rows, features, center = context.train_indices, cache.features(), "none"
    if context.center:
        features, center = cache.centered_features(context.features.mean(0).numpy())
    bags = np.repeat(np.arange(len(context.store), dtype=np.int32)[:, None], spec.size, axis=1)
    if spec.kind == "kmeans":
        clusters = kmeans(features, indices=rows, seed=context.seed, device=context.device)
        bags[rows] = cluster_bags(clusters, spec.size, context.seed, rows)
        return bags
    graph = build_graph(
        features,
        spec.size,
        indices=rows,
        max_similarity=spec.max_similarity,
        device=context.device,
        folder=cache.folder / f"graph-{spec.size}-{len(rows)}-{context.seed}-{center}-{spec.max_similarity}",
        digest=f"{context.teacher.digest} {center}",
        description="bags",
    )
    statistics = graph_statistics(graph, context.store.labels if context.store.labeled else None)
    logger.info("bags: %s", statistics.summary())
    if warning := statistics.warning():
        logger.warning(warning)
    bags[rows] = knn_bags(graph)
    return bags
