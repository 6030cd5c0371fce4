"""A run: from images to a trained encoder in a folder that explains and recreates itself.

A run folder holds config.json, metrics.csv, tensorboard/, checkpoint.ckpt, encoder/ (timm reads it as "local-dir:...")
and, once evaluated, result.json.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from limbeck.core.config import to_json
from limbeck.core.distributed import peer_failure_as_user_error
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.core.locks import exclusive_lock
from limbeck.core.rank import is_rank0
from limbeck.core.run_folder import CONFIG, ENCODER, RESULT
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.check.stats import ALLOW_BAD
from limbeck.data.sampling import ALL_ROWS, SamplingPlan, ViewSpec
from limbeck.data.sources.open import Source
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.evaluate import EvaluateConfig, EvaluationResult, evaluate
from limbeck.evaluate.comparison import compare_run
from limbeck.methods import DistillConfig, Method, MethodConfig
from limbeck.metrics.fidelity import NUM_NEIGHBORS
from limbeck.models.backbone import Backbone, BackboneConfig, build_backbone
from limbeck.models.encoder_io import Preprocessing, load, load_preprocessing, save_encoder
from limbeck.runs.defaults import DISTILL_OPTIM, STUDENT
from limbeck.runs.online_eval import make_eval_callback
from limbeck.runs.resolve import RunConfig, RunRequest, Say, read_config, resolve_run
from limbeck.teachers import LoadedTeacher, TeacherConfig, larger, load_teacher
from limbeck.teachers.setup import TeacherContext, build_distillation_inputs, prepare_teacher
from limbeck.train.config import TrainConfig
from limbeck.train.estimate import CostEstimate, estimate_cost
from limbeck.train.eval_callback import evaluate_encoder
from limbeck.train.loop import train as train_method
from limbeck.train.optim import OptimConfig


def pretrain(
    source: Source,
    out: str | Path,
    *,
    method: MethodConfig | None = None,
    backbone: BackboneConfig | None = None,
    optim: OptimConfig | None = None,
    training: TrainConfig | None = None,
    store_size: int | None = None,
    allow_bad: float = ALLOW_BAD,
    say: Say = print,
) -> Path:
    """Pretrains a backbone on the images of `source` and returns the run's folder, `out`.

    Args:
        source: a folder, parquet files, a store, arrays, ... (see `limbeck.data.sources`).
        out: the run's folder; it must not hold a run yet.
        method: by default SDSSL over BYOL.
        backbone: by default a ViT-Tiny; sizes that are not given are fitted to the images.
        optim: by default AdamW for ViTs and LARS for convolutional networks.
        training: how long and on what.
        store_size: pixels of the stored images (see `build_store`).
        allow_bad: share of the images that may be unreadable.
        say: where to tell what was chosen.

    Raises:
        UserError: no images, a run in the way, settings that do not fit together.
    """
    run = Path(out)
    _check_free(run)
    request = RunRequest(
        source=source,
        method=method,
        backbone=backbone,
        optim=optim,
        training=training,
        store_size=store_size,
        allow_bad=allow_bad,
    )
    cfg, store, _ = resolve_run(request, say)
    return _fit(cfg, store, run, resume=False)


def distill(
    source: Source,
    out: str | Path,
    *,
    teacher: TeacherConfig | str,
    teacher_module: nn.Module | None = None,
    method: DistillConfig | None = None,
    student: BackboneConfig | None = None,
    optim: OptimConfig | None = None,
    training: TrainConfig | None = None,
    store_size: int | None = None,
    allow_bad: float = ALLOW_BAD,
    say: Say = print,
) -> Path:
    """Teaches a small network what a large one says of the images of `source`; returns the run's folder, `out`.

    Args:
        source: as for `pretrain`.
        out: the run's folder; it must not hold a run yet.
        teacher: a name or a folder, or all that can be said of a teacher (docs/distillation.md).
        teacher_module: the teacher itself, where it is a module of your own; `teacher` then has its size, mean and std.
        method: by default SimReg.
        student: by default a ResNet-18; sizes that are not given are fitted to the images.
        optim: by default AdamW.
        training: how long and on what.
        store_size: pixels of the stored images (see `build_store`).
        allow_bad: share of the images that may be unreadable.
        say: where to tell what was chosen, and in the end how much of the teacher is kept.

    Raises:
        UserError: as `pretrain`; a teacher that cannot be loaded or whose preprocessing is not known, or a cache of
            another teacher or store.
    """
    run = Path(out)
    _check_free(run)
    request = RunRequest(
        source=source,
        method=method,
        backbone=student or BackboneConfig(name=STUDENT),
        optim=optim or DISTILL_OPTIM,
        training=training,
        teacher=TeacherConfig(name=teacher) if isinstance(teacher, str) else teacher,
        teacher_module=teacher_module,
        store_size=store_size,
        allow_bad=allow_bad,
    )
    cfg, store, teacher_context = resolve_run(request, say)
    return _fit(cfg, store, run, teacher_context, say, resume=False)


def plan(
    source: Source,
    *,
    method: MethodConfig | None = None,
    backbone: BackboneConfig | None = None,
    optim: OptimConfig | None = None,
    training: TrainConfig | None = None,
    store_size: int | None = None,
    allow_bad: float = ALLOW_BAD,
    say: Say = print,
) -> CostEstimate:
    """What `pretrain` with the same arguments would cost, from a few of its steps; writes no run.

    One process takes its share of a batch; several are reckoned to be as many times as fast.

    Raises:
        UserError: as `pretrain`.
    """
    request = RunRequest(
        source=source,
        method=method,
        backbone=backbone,
        optim=optim,
        training=training,
        store_size=store_size,
        allow_bad=allow_bad,
    )
    cfg, store, _ = resolve_run(request, say)
    processes = cfg.training.devices * cfg.training.num_nodes
    alone = replace(cfg.training, devices=1, num_nodes=1, batch_size=cfg.training.batch_size // processes)
    method_alone, views = cfg.method.build(_fresh_backbone(cfg)), cfg.method.make_views(cfg.image_size)
    found = estimate_cost(method_alone, store, views, alone, cfg.optim)
    steps = cfg.training.total_steps(len(store) // cfg.training.batch_size)
    return found.with_processes(processes, images=len(store), steps=steps)


def resume(
    run: str | Path, *, stop_on_collapse: bool = True, teacher_module: nn.Module | None = None, say: Say = print
) -> Path:
    """Goes on with a run from its last checkpoint, to the same numbers as if it had never stopped.

    Without `stop_on_collapse` it also does so where its embeddings have collapsed (docs/health.md). `teacher_module` is the
    teacher of a distillation, where it is a module of your own.
    """
    folder = Path(run)
    cfg = read_config(folder)
    if not cfg.store:
        raise UserError(f"{folder} was trained on arrays in memory, which are gone; start it anew from Python")
    store = Store.open(cfg.store)
    if store.digest != cfg.digest:
        raise UserError(f"the store {cfg.store} has changed since {folder} began; build it again from the same images")
    frozen = load_teacher(cfg.teacher, teacher_module=teacher_module) if cfg.teacher else None
    teacher_context = prepare_teacher(cfg.teacher, frozen, store, cfg.training) if cfg.teacher and frozen else None
    return _fit(cfg, store, folder, teacher_context, say, resume=True, stop_on_collapse=stop_on_collapse)


def evaluate_run(
    run: str | Path,
    train_data: Source,
    test_data: Source,
    cfg: EvaluateConfig | None = None,
    *,
    baseline: str | Path | None = None,
    teacher_module: nn.Module | None = None,
    allow_bad: float = ALLOW_BAD,
    say: Say = print,
) -> EvaluationResult:
    """Judges every layer of a run's encoder beside the same network at its random start; writes result.json.

    A distilled encoder is compared with its teacher as well (`teacher_module`, where that is a module of your own), and with
    the same network of the run `baseline`, trained without one. `allow_bad` is the share of images of either source that
    may be unreadable; `say` is told how many were.
    """
    folder = Path(run)
    config = read_config(folder)
    if baseline is not None and config.teacher is None:
        raise UserError(f"{folder} had no teacher: a run from scratch is compared with a distilled one")
    size = Store.open(config.store).size if config.store else None
    bank, queries = (open_store(source, store_size=size, allow_bad=allow_bad) for source in (train_data, test_data))
    for store in (bank, queries):
        if store.skipped:
            say(store.summary())
    cfg = cfg or EvaluateConfig()
    frozen, fresh = _teacher_again(config, teacher_module, say), _fresh_backbone(config)
    comparison = compare_run(folder, frozen, fresh, bank, queries, cfg, baseline=baseline) if frozen else None
    preprocessing = load_preprocessing(folder)
    result = evaluate(load(folder), bank, queries, cfg, preprocessing=preprocessing, reference=fresh)
    result = replace(result, comparison=comparison)
    result.save(folder / RESULT)
    return result


def _teacher_again(config: RunConfig, teacher_module: nn.Module | None, say: Say) -> LoadedTeacher | None:
    """The teacher that a run had; None, and a word on it, where it cannot be had any more."""
    if config.teacher is None:
        return None
    try:
        return load_teacher(config.teacher, teacher_module=teacher_module)
    except UserError as error:
        say(f"not compared with its teacher: {error}")
        return None


def _check_free(run: Path) -> None:
    if is_rank0() and (run / CONFIG).exists():
        raise UserError(f"{run} holds a run already; go on with `limbeck resume {run}` or choose another folder")


def _fit(
    cfg: RunConfig,
    store: Store,
    run: Path,
    teacher_context: TeacherContext | None = None,
    say: Say = print,
    *,
    resume: bool,
    stop_on_collapse: bool = True,
) -> Path:
    backbone, size = _fresh_backbone(cfg), cfg.image_size
    tell: Say = say if is_rank0() else lambda sentence: None
    with _guarded(run):
        method, views, sampling = _subject(cfg, backbone, store, run, teacher_context, tell)
        if is_rank0():
            with atomic_write(run / CONFIG) as path:
                path.write_text(json.dumps(to_json(cfg), indent=2) + "\n")
        probe = make_eval_callback(store, size, teacher_context)
        train_method(
            method,
            store,
            views,
            replace(cfg.training, stop_on_collapse=cfg.training.stop_on_collapse and stop_on_collapse),
            cfg.optim,
            run,
            config=to_json(cfg),
            eval_callback=probe,
            sampling=sampling,
            resume=resume,
        )
        if is_rank0():
            preprocessing = Preprocessing(image_size=size, store_size=store.size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
            encoder = method.encoder()
            assert isinstance(encoder, Backbone)
            save_encoder(encoder, run / ENCODER, preprocessing, {"run": to_json(cfg)})
            if teacher_context and probe and "neighbor_agreement" in (found := evaluate_encoder(probe, encoder)):
                tell(_kept(found, len(teacher_context.held_out)))
    return run


def _subject(
    cfg: RunConfig, backbone: Backbone, store: Store, run: Path, teacher_context: TeacherContext | None, say: Say
) -> tuple[Method, tuple[ViewSpec, ...], SamplingPlan]:
    """What is trained, on which views of which rows."""
    if teacher_context is None:
        return cfg.method.build(backbone), cfg.method.make_views(cfg.image_size), ALL_ROWS
    assert isinstance(cfg.method, DistillConfig)
    if sentence := larger(sum(p.numel() for p in backbone.parameters()), teacher_context.frozen.parameters):
        say(sentence)
    lesson = build_distillation_inputs(teacher_context, cfg.method, store, cfg.image_size, cfg.training.seed, run, say)
    return cfg.method.build_distiller(backbone, lesson.teacher), lesson.views, lesson.sampling


@contextmanager
def _guarded(run: Path) -> Iterator[None]:
    """While a run's processes train: no others do so in its folder, and if one of them ends the others say it."""
    ended = f"another process of this run has ended, and this one with it; go on with `limbeck resume {run}`"
    with exclusive_lock(run) if is_rank0() else nullcontext(), peer_failure_as_user_error(ended):
        yield


def _kept(found: dict[str, float], images: int) -> str:
    """How much of the teacher a student has kept, by what a probe found on images that were held out."""
    return (
        f"keeps {found['neighbor_agreement']:.0%} of the teacher's {NUM_NEIGHBORS} nearest neighbours on {images:,} images that "
        f"were held out (chance: {NUM_NEIGHBORS / (images - 1):.1%}), linear CKA {found['cka']:.2f}"
    )


def _fresh_backbone(cfg: RunConfig) -> Backbone:
    """The network at its random start, which is the seed's."""
    torch.manual_seed(cfg.training.seed)
    return build_backbone(cfg.backbone)
