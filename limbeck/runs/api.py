"""Runs from Python: from images to a trained encoder, in a folder that documents and reproduces itself.

A run folder holds config.json, log.txt, metrics.csv, checkpoint.ckpt, health.json, encoder/ (which
timm or the model.py in it loads) and, once evaluated, result.json.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from limbeck.core.config import EncoderConfig
from limbeck.core.devices import choose_device
from limbeck.core.disk import check_writable
from limbeck.core.errors import UserError
from limbeck.core.logs import ensure_visible, log_file
from limbeck.core.run_folder import LOG, RESULT, START
from limbeck.data.annotated import keypoint_file
from limbeck.data.check.issues import ALLOW_BAD
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store
from limbeck.evaluation.comparison import ComparedWith, WholeBackbone, compare_run
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.evaluator import check_takes, evaluate, override
from limbeck.evaluation.models import EvaluatedModel
from limbeck.evaluation.references import PROJECTED, START_NETWORK, load_whole, measure_references
from limbeck.evaluation.results import Comparison, EvaluationResult, ModelScores
from limbeck.modalities import modality_of
from limbeck.modalities.base import StoreModality
from limbeck.models.backbone import Backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import load, load_preprocessing
from limbeck.models.hub import known_only
from limbeck.runs.config import RunConfig, read_config
from limbeck.runs.defaults import ADAPT_BATCH
from limbeck.runs.folder import began_in_this_job, check_new_run
from limbeck.runs.labeled import LabeledSources, select
from limbeck.runs.measured_kernels import with_kernels
from limbeck.runs.request import RunRequest, RunSettings
from limbeck.runs.resolve import resolve_run
from limbeck.runs.resume import resume
from limbeck.runs.run_length import estimate_run, fit_to_time
from limbeck.runs.suited import check_suited
from limbeck.runs.training import build_method, fresh_encoder, train_run
from limbeck.teachers.config import PATCH_FILTERS, START_TEACHER, TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.train.config import TrainConfig
from limbeck.train.estimate import CostEstimate
from limbeck.train.launch import check_launch

logger = logging.getLogger(__name__)


def pretrain(
    source: Source, out: str | Path, *, backbone: EncoderConfig | None = None, **settings: Unpack[RunSettings]
) -> Path:
    """Pretrain a backbone on the images of `source` and return the folder of the run, `out`.

    Args:
        source: a folder, parquet files, a store, arrays, ... (`limbeck.data.sources`).
        out: folder of the run; it must not contain a run yet.
        backbone: by default a ViT-Tiny, on a CPU a plain CNN; sizes that are not given are fitted to the images.
        **settings: `method` (by default SimCLR, or see `runs.choose`), `optim` (AdamW for ViTs, LARS for CNNs),
            `training` (how long and on which devices), `time` (end within "30m") or `quick` (a first look in ten
            minutes), `start` (trained weights to start from), `store_size` (pixels of the stored images), `allow_bad`
            (fraction of the images that may be unreadable), `exclude` and `only` (patterns of names); see `RunRequest`.

    Raises:
        UserError: there are no images, the folder contains a run, or settings do not fit together.
    """
    return start_run(RunRequest(source=source, backbone=backbone, **settings), Path(out))


def distill(
    source: Source,
    out: str | Path,
    *,
    teacher: TeacherConfig | str,
    teacher_module: nn.Module | None = None,
    student: BackboneConfig | None = None,
    **settings: Unpack[RunSettings],
) -> Path:
    """Distill a large network into a small one on the images of `source` and return the folder of the run, `out`.

    Args:
        source: as in `pretrain`.
        out: folder of the run; it must not contain a run yet.
        teacher: a name or a folder, or all settings of a teacher (docs/distillation.md).
        teacher_module: the teacher itself, if it is a module of your own; `teacher` then has its image size, mean, std.
        student: by default a ResNet-18, on a CPU a plain CNN; sizes that are not given are fitted to the images.
        **settings: as in `pretrain`; `method` is by default SimReg, `optim` AdamW.

    Raises:
        UserError: as `pretrain`; or the teacher cannot be loaded, its preprocessing is unknown, or the cache is that of
            another teacher or store.
    """
    named = TeacherConfig(name=teacher) if isinstance(teacher, str) else teacher
    request = RunRequest(source=source, backbone=student, teacher=named, teacher_module=teacher_module, **settings)
    return start_run(request, Path(out))


def adapt(
    source: Source, out: str | Path, *, backbone: BackboneConfig | None = None, **settings: Unpack[RunSettings]
) -> Path:
    """Continue trained weights on the images of `source`, held to them, and return the folder of the run, `out`.

    The frozen copy of the start is the teacher, a fifth of the images is held out, and the encoder of the run is the
    start itself unless the adapted weights are better on those (`limbeck.evaluation.adaptation`).

    Args:
        source: as in `pretrain`.
        out: folder of the run; it must not contain a run yet.
        backbone: the network of a file of weights, or what to change about that of the start, such as its image size.
        **settings: as in `pretrain`, with a `start`; `method` is by default Anchor, `training` has batches of 64
            images, and `time` is 20 minutes unless there are epochs.

    Raises:
        UserError: as `pretrain`; or there is no start, or it cannot be loaded.
    """
    settings.setdefault("training", TrainConfig(batch_size=ADAPT_BATCH))
    teacher = TeacherConfig(name=START_TEACHER)
    return start_run(RunRequest(source=source, backbone=backbone, teacher=teacher, **settings), Path(out))


def plan(
    source: Source,
    *,
    backbone: EncoderConfig | None = None,
    teacher: TeacherConfig | None = None,
    teacher_module: nn.Module | None = None,
    **settings: Unpack[RunSettings],
) -> CostEstimate:
    """Estimate what `pretrain`, or `distill` with a teacher, would cost, from parts of its steps; no run is written.

    One process takes its part of a batch; several are assumed to be as many times as fast.

    Raises:
        UserError: as `pretrain` or `distill`.
    """
    ensure_visible()
    request = RunRequest(source=source, backbone=backbone, teacher=teacher, teacher_module=teacher_module, **settings)
    setup = resolve_run(request)
    trainable = build_method(setup, Path())
    setup = replace(setup, began=time.monotonic())  # a run finds the store and the features of its teacher prepared
    setup, estimate = with_kernels(setup, trainable, estimate_run(setup, trainable, try_batches=True))
    return estimate.with_steps(fit_to_time(setup, estimate).total_steps)


def evaluate_run(
    run: str | Path,
    train_data: Source,
    test_data: Source,
    cfg: EvaluateConfig | None = None,
    *,
    others: Sequence[str] = (),
    references: Sequence[ModelScores] | None = None,
    teacher_module: nn.Module | None = None,
    allow_bad: float = ALLOW_BAD,
    exclude: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
) -> EvaluationResult:
    """Evaluate every layer of a run's encoder, and the same network with its initial weights; write result.json.

    Args:
        run: folder of the run.
        train_data, test_data: labeled images to fit on, and to score.
        cfg: settings of the evaluation.
        others: networks to compare with as a whole, as `limbeck.evaluation.references.load_whole` takes them.
        references: lines of reference that are measured already; None: measure them and `others`. The start always is.
        teacher_module: the teacher, with which a distilled encoder is compared, if it is a module of your own.
        allow_bad: fraction of the images of either source that may be unreadable.
        exclude, only: patterns of images that are left out, as in `limbeck.build_store`; None: those of the run.

    Raises:
        UserError: as `limbeck.evaluation.evaluator.evaluate`, or the folder has no encoder.
    """
    ensure_visible()
    cfg, config = cfg or EvaluateConfig(), read_config(folder := Path(run))
    check_writable(folder)  # before hours of work
    check_suited([str(run)], others, (train_data, test_data), cfg, allow_bad=allow_bad, exclude=exclude, only=only)
    left_out = select(config, exclude, only)
    sources = LabeledSources(train=train_data, test=test_data, device=cfg.device, left_out=left_out)
    if not isinstance(config.backbone, BackboneConfig):
        compared = _compared_with(folder, config, others, references, teacher_module)
        return _evaluate_other_data(folder, config, replace(sources, allow_bad=allow_bad), cfg, compared)
    models = [*_load_start(folder, config), *map(load_whole, others if references is None else ())]
    untrained = fresh_encoder(config)
    assert isinstance(untrained, Backbone), "the encoder of a run on images is what its modality built"
    encoder, how = load(folder), load_preprocessing(folder)
    check_takes(encoder, override(how, cfg).image_size)
    teacher = _reload_teacher(config, teacher_module)
    bank, queries = replace(sources, store_size=how.store_size, allow_bad=allow_bad).open()
    comparison = compare_run(folder, teacher, untrained, bank, queries, cfg, models) if teacher else None
    data = EvalData.of(bank, queries, cfg if references is None else replace(cfg, references=False))
    found = (*_measure_around(data, models, comparison, config.teacher), *(references or ()))
    result = evaluate(encoder, bank, queries, cfg, preprocessing=how, reference=untrained, references=found)
    (result := replace(result, comparison=comparison)).save(folder / RESULT)
    return result


def _evaluate_other_data(
    run: Path, config: RunConfig, sources: LabeledSources, cfg: EvaluateConfig, compared: ComparedWith
) -> EvaluationResult:
    """Evaluate a run whose features are none of images."""
    modality = modality_of(config.backbone)
    train: Any = sources.train
    test: Any = sources.test
    if isinstance(modality, StoreModality):
        choose_device(cfg.device)
        files = cfg.train_keypoints or keypoint_file(train), cfg.test_keypoints or keypoint_file(test)
        cfg = replace(cfg, train_keypoints=files[0], test_keypoints=files[1])
        train, test = sources.images()
    result = modality.evaluate(run, fresh_encoder(config), train, test, cfg, compared)
    result.save(run / RESULT)
    return result


def _compared_with(
    run: Path,
    config: RunConfig,
    others: Sequence[str],
    references: Sequence[ModelScores] | None,
    teacher_module: nn.Module | None,
) -> ComparedWith:
    """Return the models that a run of data other than images is compared with."""
    start = (config.start.name, run / START) if config.start and (run / START).is_dir() else None
    return ComparedWith(
        teacher=_reload_teacher(config, teacher_module),
        start=start,
        others=tuple(others),
        measured=None if references is None else tuple(references),
    )


def _measure_around(
    data: EvalData, models: Sequence[EvaluatedModel], comparison: Comparison | None, teacher: TeacherConfig | None
) -> tuple[ModelScores, ...]:
    """Return the lines of reference; `models` have been measured already if they were compared with a teacher.

    A teacher that needs no training is one of them.
    """
    measured = comparison.students[2:] if comparison else ()
    if comparison and teacher and teacher.names == (PATCH_FILTERS,):
        measured = (replace(comparison.teacher, name=PROJECTED), *measured)
    return measure_references(data, () if comparison else models, measured)


def _load_start(run: Path, config: RunConfig) -> list[EvaluatedModel]:
    """Return the network with the weights that a run started from, which its folder keeps; none without a start."""
    folder = run / START
    if config.start is None or not folder.is_dir():
        return []
    return [WholeBackbone(f"{START_NETWORK}{config.start.name}", load(folder), load_preprocessing(folder))]


def start_run(request: RunRequest, run: Path) -> Path:
    """Train what is requested in the new folder `run`, and return it; a job that was requeued resumes its run."""
    ensure_visible()
    check_launch(request.training)
    if began_in_this_job(run):
        logger.info("'%s' was begun by this job of SLURM, which was requeued: resuming it", run)
        return resume(run, stop_on_collapse=request.training.stop_on_collapse, teacher_module=request.teacher_module)
    check_new_run(run)
    with log_file(run / LOG) as begin_log:
        return train_run(resolve_run(request), run, begin_log)


def _reload_teacher(config: RunConfig, teacher_module: nn.Module | None) -> LoadedTeacher | None:
    """Return the teacher that a run had; None, and a warning, if it cannot be loaded any more."""
    if config.teacher is None or config.teacher.name == START_TEACHER:  # which has a line of its own
        return None
    try:
        store = Store.open(config.store) if PATCH_FILTERS in config.teacher.names else None
        with known_only():
            return modality_of(config.backbone).load_teacher(config.teacher, teacher_module, store, None)
    except UserError as error:
        logger.warning("not comparing with the teacher: %s", error)
        return None
