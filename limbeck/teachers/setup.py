"""What stands between a distillation and its teacher: which images, what it says of them, and which come together."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.errors import UserError
from limbeck.core.run_folder import TEACHER
from limbeck.core.types import Bags
from limbeck.data.augment.views import View
from limbeck.data.loader import KEPT_SEED, Loader, Visits
from limbeck.data.store.store import Store
from limbeck.methods import DistillConfig
from limbeck.methods.base import Teacher
from limbeck.methods.base.temperature import CONE, cone
from limbeck.neighbors.bags import cluster_bags, kmeans, knn_bags
from limbeck.neighbors.graph import neighbours
from limbeck.neighbors.statistics import describe
from limbeck.teachers.cache import Cache
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import Frozen, teacher_features
from limbeck.teachers.licence import warning
from limbeck.teachers.outputs import Kept, Live, check_alike, keep
from limbeck.train.config import TrainConfig
from limbeck.train.launch import choose_accelerator

SAMPLE = 1024  # images that a teacher's vectors are judged by
HELD_OUT = 1000  # images, or a tenth of a store of fewer than ten times as many
COMPARED = 16  # images whose kept answers are compared with live ones
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pupil:
    """What is known of a teacher before the student is built."""

    cfg: TeacherConfig
    """Of the teacher, with what it says of itself and what was chosen filled in."""
    frozen: Frozen
    kept: NDArray[np.int64]
    """Rows of the store to learn from, ascending."""
    held_out: NDArray[np.int64]
    """The other rows, on which student and teacher are compared."""
    sample: Tensor
    """Unit vectors of the teacher, of some of the images to learn from, [M D]; centred if the teacher is."""
    raw: Tensor
    """The same, not centred."""
    device: torch.device


class Lesson(NamedTuple):
    """What training needs of a teacher."""

    teacher: Teacher
    views: tuple[View, ...]
    visits: Visits


def enrol(
    cfg: TeacherConfig, frozen: Frozen, store: Store, train: TrainConfig, say: Say = lambda sentence: None
) -> Pupil:
    """Holds images out, asks the teacher about some of the others, and chooses what its vectors decide.

    Raises:
        UserError: more images to be held out than there are.
    """
    if cautioned := warning(frozen):
        say(cautioned)
    held_out, kept = _split(len(store), cfg.held_out, train.seed)
    device = _device(train)
    rows = np.sort(np.random.default_rng(train.seed).permutation(kept)[:SAMPLE])
    raw = F.normalize(teacher_features(frozen, store, rows, device=device, show="the teacher's sample"), dim=1).cpu()
    long = cone(raw)
    centre = long > CONE if cfg.centre is None else cfg.centre
    if cfg.centre is None:
        verdict = f"above {CONE}: it is subtracted" if centre else f"at most {CONE}: it is left as it is"
        say(f"the mean of the teacher's unit vectors is {long:.2f} long, {verdict}")
    filled = replace(
        _anywhere(cfg), digest=frozen.digest, licence=frozen.licence, held_out=len(held_out), centre=centre
    )
    sample = raw - raw.mean(0) if centre else raw
    return Pupil(cfg=filled, frozen=frozen, kept=kept, held_out=held_out, sample=sample, raw=raw, device=device)


def attend(pupil: Pupil, method: DistillConfig, store: Store, size: int, seed: int, run: Path, say: Say) -> Lesson:
    """The teacher as the method meets it, and the views and company of the images; passes over the store are made here.

    Raises:
        UserError: a cache of another teacher or store, or a dense term with kept answers, which have no maps.
    """
    cfg, frozen = pupil.cfg, pupil.frozen
    _check_maps(pupil, method)
    views = tuple(_seen_by(frozen, view) for view in method.make_views(size))
    folder, bags = _folder(pupil, store, run), method.bags()
    if not (bags or cfg.replay):
        return Lesson(_live(pupil, method, views), views, Visits(rows=pupil.kept))
    cache = Cache(folder, frozen, store, pupil.device, say)
    visits = Visits(rows=pupil.kept, bags=None if bags is None else _bags(cache, pupil, store, bags, seed, say))
    live = _live(pupil, method, views)
    if not cfg.replay:
        return Lesson(live, views, visits)
    kept = Kept(frozen, views, pupil.raw, keep(cache, views, KEPT_SEED, cfg.replay), centre=bool(cfg.centre))
    count = min(COMPARED, len(pupil.kept))
    loader = Loader(store, views, count, seed=KEPT_SEED, device=pupil.device, visits=visits)
    check_alike(live, kept, next(loader.batches(0, 1)))
    return Lesson(kept, views, visits._replace(replay=cfg.replay))


def _anywhere(cfg: TeacherConfig) -> TeacherConfig:
    """With absolute paths, as a run has that of its store: it may be resumed from another folder."""
    name = str(Path(cfg.name).absolute()) if Path(cfg.name).is_dir() else cfg.name
    return replace(cfg, name=name, weights=_absolute(cfg.weights), cache=_absolute(cfg.cache))


def _absolute(path: str | None) -> str | None:
    return path if path is None else str(Path(path).absolute())


def _check_maps(pupil: Pupil, method: DistillConfig) -> None:
    """UserError for a dense term without the maps that it compares."""
    if method.dense and not pupil.frozen.map_dim:
        raise UserError(f"the teacher {pupil.frozen.source} has no maps for a dense term: leave --method.dense out")
    if method.dense and pupil.cfg.replay:
        raise UserError("kept answers have no maps, which the dense term compares: take --teacher.replay 0")


def _live(pupil: Pupil, method: DistillConfig, views: tuple[View, ...]) -> Live:
    return Live(pupil.frozen, views, pupil.raw, centre=bool(pupil.cfg.centre), maps=method.dense > 0)


def _seen_by(frozen: Frozen, view: View) -> View:
    """A teacher's view in its own size and normalisation."""
    if not view.teacher:
        return view
    return replace(view, size=frozen.size, mean=frozen.mean, std=frozen.std, interpolation=frozen.interpolation)


def _split(count: int, asked: int | None, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows held out, drawn with the seed, and the rest; both ascending."""
    wanted = min(HELD_OUT, count // 10) if asked is None else asked
    if wanted >= count:
        raise UserError(f"teacher.held_out is {wanted} and the store has {count} images: take at most {count // 2}")
    order = np.random.default_rng((seed, 1)).permutation(count)
    return np.sort(order[:wanted]), np.sort(order[wanted:])


def _device(train: TrainConfig) -> torch.device:
    kind = choose_accelerator(train)
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device(kind)


def _folder(pupil: Pupil, store: Store, run: Path) -> Path:
    """Of the cache that was asked for, of one beside the store, or in the run's where images are in memory."""
    if pupil.cfg.cache is not None:
        return Path(pupil.cfg.cache)
    if store.path is None:
        return run / TEACHER
    return Path(f"{store.path}.teachers") / f"{pupil.frozen.digest[:12]}-{store.digest[:12]}"


def _bags(cache: Cache, pupil: Pupil, store: Store, bags: Bags, seed: int, say: Say) -> NDArray[np.int32]:
    """The bags of every row, [N K]; rows that are held out are in none, and stand by themselves."""
    rows, mark = pupil.kept, "plain"
    vectors = cache.plain()
    if pupil.cfg.centre:
        vectors, mark = cache.centred(pupil.raw.mean(0).numpy())
    table = np.repeat(np.arange(len(store), dtype=np.int32)[:, None], bags.size, axis=1)
    if bags.kind == "kmeans":
        clusters = kmeans(vectors, rows=rows, seed=seed, device=pupil.device)
        table[rows] = cluster_bags(clusters, bags.size, seed, rows)
        return table
    folder = cache.folder / f"neighbours-{bags.size}-{len(rows)}-{seed}-{mark}-{bags.drop_above}"
    graph = neighbours(
        vectors,
        bags.size,
        rows=rows,
        drop_above=bags.drop_above,
        device=pupil.device,
        folder=folder,
        digest=f"{pupil.frozen.digest} {mark}",
        say=say,
        show="bags",
    )
    found = describe(graph, store.labels if store.labelled else None)
    for sentence in filter(None, (f"bags: {found.summary()}", found.warning())):
        say(sentence)
    table[rows] = knn_bags(graph)
    return table
