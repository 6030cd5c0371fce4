"""What stands between a distillation and its teacher: which images, what it says of them, and which come together."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.devices import local_device
from limbeck.core.errors import UserError
from limbeck.core.run_folder import TEACHER
from limbeck.core.types import BagSpec
from limbeck.data.loader import Loader
from limbeck.data.sampling import SamplingPlan, ViewSpec
from limbeck.data.store.store import Store
from limbeck.methods import DistillConfig
from limbeck.methods.base import Teacher
from limbeck.methods.base.temperature import MAX_RESULTANT_LENGTH, mean_resultant_length
from limbeck.neighbors.bags import cluster_bags, kmeans, knn_bags
from limbeck.neighbors.graph import build_graph
from limbeck.neighbors.statistics import graph_statistics
from limbeck.teachers.cache import Cache
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher, teacher_features
from limbeck.teachers.license import warning
from limbeck.teachers.outputs import Kept, LiveTeacher, check_alike, keep
from limbeck.train.config import TrainConfig

SAMPLE = 1024  # images that a teacher's vectors are judged by
HELD_OUT = 1000  # images, or a tenth of a store of fewer than ten times as many
COMPARED = 16  # images whose kept answers are compared with live ones
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherContext:
    """What is known of a teacher before the student is built."""

    cfg: TeacherConfig
    """Of the teacher, with what it says of itself and what was chosen filled in."""
    frozen: LoadedTeacher
    kept: NDArray[np.int64]
    """Rows of the store to learn from, ascending."""
    held_out: NDArray[np.int64]
    """The other rows, on which student and teacher are compared."""
    sample: Tensor
    """Unit vectors of the teacher, of some of the images to learn from, [M D]; centred if the teacher is."""
    raw: Tensor
    """The same, not centred."""
    device: torch.device


class DistillationInputs(NamedTuple):
    """What training needs of a teacher."""

    teacher: Teacher
    views: tuple[ViewSpec, ...]
    sampling: SamplingPlan


def prepare_teacher(
    cfg: TeacherConfig, frozen: LoadedTeacher, store: Store, train: TrainConfig, say: Say = lambda sentence: None
) -> TeacherContext:
    """Holds images out, asks the teacher about some of the others, and chooses what its vectors decide.

    Raises:
        UserError: more images to be held out than there are.
    """
    if cautioned := warning(frozen):
        say(cautioned)
    held_out, kept = _split(len(store), cfg.val_images, train.seed)
    device = local_device(train.accelerator)
    rows = np.sort(np.random.default_rng(train.seed).permutation(kept)[:SAMPLE])
    raw = F.normalize(teacher_features(frozen, store, rows, device=device, show="the teacher's sample"), dim=1).cpu()
    long = mean_resultant_length(raw)
    center = long > MAX_RESULTANT_LENGTH if cfg.center is None else cfg.center
    if cfg.center is None:
        verdict = (
            f"above {MAX_RESULTANT_LENGTH}: it is subtracted"
            if center
            else f"at most {MAX_RESULTANT_LENGTH}: it is left as it is"
        )
        say(f"the mean of the teacher's unit vectors is {long:.2f} long, {verdict}")
    filled = replace(
        _anywhere(cfg), digest=frozen.digest, license=frozen.license, val_images=len(held_out), center=center
    )
    sample = raw - raw.mean(0) if center else raw
    return TeacherContext(
        cfg=filled, frozen=frozen, kept=kept, held_out=held_out, sample=sample, raw=raw, device=device
    )


def build_distillation_inputs(
    teacher_context: TeacherContext, method: DistillConfig, store: Store, size: int, seed: int, run: Path, say: Say
) -> DistillationInputs:
    """The teacher as the method meets it, and the views and company of the images; passes over the store are made here.

    Raises:
        UserError: a cache of another teacher or store, or a dense term with kept answers, which have no maps.
    """
    cfg, frozen = teacher_context.cfg, teacher_context.frozen
    _check_maps(teacher_context, method)
    views = tuple(_seen_by(frozen, view) for view in method.make_views(size))
    folder, bags = _folder(teacher_context, store, run), method.bags()
    if not (bags or cfg.cached_views):
        return DistillationInputs(
            _live(teacher_context, method, views), views, SamplingPlan(indices=teacher_context.kept)
        )
    cache = Cache(folder, frozen, store, teacher_context.device, say)
    sampling = SamplingPlan(
        indices=teacher_context.kept,
        bags=None if bags is None else _bags(cache, teacher_context, store, bags, seed, say),
    )
    live = _live(teacher_context, method, views)
    if not cfg.cached_views:
        return DistillationInputs(live, views, sampling)
    sampling = sampling._replace(view_period=cfg.cached_views)
    rows = teacher_context.kept[:: -(-len(teacher_context.kept) // COMPARED)]
    loader = Loader(store, views, len(rows), seed=seed, device=teacher_context.device, sampling=sampling)
    kept = Kept(frozen, views, teacher_context.raw, keep(cache, loader.schedule), center=bool(cfg.center))
    check_alike(live, kept, loader.fixed_batch(rows, teacher_views=True))
    return DistillationInputs(kept, views, sampling)


def _anywhere(cfg: TeacherConfig) -> TeacherConfig:
    """With absolute paths, as a run has that of its store: it may be resumed from another folder."""
    name = str(Path(cfg.name).absolute()) if Path(cfg.name).is_dir() else cfg.name
    return replace(cfg, name=name, weights=_absolute(cfg.weights), cache=_absolute(cfg.cache))


def _absolute(path: str | None) -> str | None:
    return path if path is None else str(Path(path).absolute())


def _check_maps(teacher_context: TeacherContext, method: DistillConfig) -> None:
    """UserError for a dense term without the maps that it compares."""
    if method.dense and not teacher_context.frozen.map_dim:
        raise UserError(
            f"the teacher {teacher_context.frozen.source} has no maps for a dense term: leave --method.dense out"
        )
    if method.dense and teacher_context.cfg.cached_views:
        raise UserError("kept answers have no maps, which the dense term compares: take --teacher.cached-views 0")


def _live(teacher_context: TeacherContext, method: DistillConfig, views: tuple[ViewSpec, ...]) -> LiveTeacher:
    return LiveTeacher(
        teacher_context.frozen,
        views,
        teacher_context.raw,
        center=bool(teacher_context.cfg.center),
        maps=method.dense > 0,
    )


def _seen_by(frozen: LoadedTeacher, view: ViewSpec) -> ViewSpec:
    """A teacher's view in its own size and normalisation."""
    if view.network == "student":
        return view
    augmentation = replace(
        view.augmentation, size=frozen.size, mean=frozen.mean, std=frozen.std, interpolation=frozen.interpolation
    )
    return replace(view, augmentation=augmentation)


def _split(count: int, asked: int | None, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows held out, drawn with the seed, and the rest; both ascending."""
    wanted = min(HELD_OUT, count // 10) if asked is None else asked
    if wanted >= count:
        raise UserError(f"teacher.val_images is {wanted} and the store has {count} images: take at most {count // 2}")
    order = np.random.default_rng((seed, 1)).permutation(count)
    return np.sort(order[:wanted]), np.sort(order[wanted:])


def _folder(teacher_context: TeacherContext, store: Store, run: Path) -> Path:
    """Of the cache that was asked for, of one beside the store, or in the run's where images are in memory."""
    if teacher_context.cfg.cache is not None:
        return Path(teacher_context.cfg.cache)
    if store.path is None:
        return run / TEACHER
    return Path(f"{store.path}.teachers") / f"{teacher_context.frozen.digest[:12]}-{store.digest[:12]}"


def _bags(
    cache: Cache, teacher_context: TeacherContext, store: Store, bags: BagSpec, seed: int, say: Say
) -> NDArray[np.int32]:
    """The bags of every row, [N K]; rows that are held out are in none, and stand by themselves."""
    rows, mark = teacher_context.kept, "plain"
    vectors = cache.plain()
    if teacher_context.cfg.center:
        vectors, mark = cache.centred(teacher_context.raw.mean(0).numpy())
    table = np.repeat(np.arange(len(store), dtype=np.int32)[:, None], bags.size, axis=1)
    if bags.kind == "kmeans":
        clusters = kmeans(vectors, indices=rows, seed=seed, device=teacher_context.device)
        table[rows] = cluster_bags(clusters, bags.size, seed, rows)
        return table
    folder = cache.folder / f"graph-{bags.size}-{len(rows)}-{seed}-{mark}-{bags.max_similarity}"
    graph = build_graph(
        vectors,
        bags.size,
        indices=rows,
        max_similarity=bags.max_similarity,
        device=teacher_context.device,
        folder=folder,
        digest=f"{teacher_context.frozen.digest} {mark}",
        description="bags",
    )
    found = graph_statistics(graph, store.labels if store.labeled else None)
    for sentence in filter(None, (f"bags: {found.summary()}", found.warning())):
        say(sentence)
    table[rows] = knn_bags(graph)
    return table
