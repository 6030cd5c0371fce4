"""Complete a request to a run that is ready to start, in stages that return a value and the reasons for it."""

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.core.config import EncoderConfig
from limbeck.core.devices import choose_device
from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.run_folder import START
from limbeck.core.text import format_duration, plural
from limbeck.core.types import DataContext, Dataset
from limbeck.data.loader import check_batch, fitting_batch
from limbeck.methods import MethodConfig, distill_config
from limbeck.methods.config.classifier import ClassifierConfig
from limbeck.modalities import Modality, modality_of
from limbeck.models.hub import known_only
from limbeck.models.start import LoadedStart
from limbeck.runs.choose import choose_recipe, seconds_of, usual_method
from limbeck.runs.companion import companion_of, open_data, reopen_companion
from limbeck.runs.config import Place, RunConfig, at_place, read_config
from limbeck.runs.defaults import (
    ADAPT_EPOCHS,
    ADAPT_TIME,
    QUICK,
    check_adapted,
    choose_modality,
    default_optim,
    runs_small,
    small_encoder,
    start_reasons,
    with_start_warmup,
)
from limbeck.runs.early import check_early
from limbeck.runs.matched import with_matched_size
from limbeck.runs.request import RunRequest
from limbeck.runs.source_part import part_of_source, remarks_on_amount
from limbeck.runs.views import resolve_for_views
from limbeck.teachers.config import PATCH_FILTERS, START_TEACHER, TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.teachers.setup import TeacherContext, prepare_teacher
from limbeck.teachers.warnings import license_warning
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.length import CPU_SHARE, USABLE, parse_duration

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class RunSetup:
    """A run that is ready to start: its configuration, its data and, for a distillation, its teacher."""

    cfg: RunConfig
    modality: Modality[Any, Any]
    data: Dataset
    teacher: TeacherContext | None
    start: LoadedStart | None
    requested_method: MethodConfig
    """The method before it was fitted to the data and to the length of the run."""
    seconds: float | None = None
    """Time that the run has, with what comes before the first step; `runs.run_length` chooses its epochs."""
    began: float = field(default_factory=time.monotonic)
    """When the run was requested, on the clock of `time.monotonic`."""
    most_epochs: float | None = None
    """Epochs after which the run ends, however much of its time is left."""

    @property
    def adapts(self) -> bool:
        """Whether the run is held to its start, with which it is compared at its end."""
        return self.cfg.teacher is not None and self.cfg.teacher.name == START_TEACHER

    @property
    def ends(self) -> float:
        """When the training has to end, on the clock of `time.monotonic`; infinity without a time."""
        return math.inf if self.seconds is None else self.began + USABLE * self.seconds

    @property
    def num_images(self) -> int:
        """Rows to train on."""
        return _num_images(self.data, self.teacher, self.cfg.method)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run."""
        return self.cfg.training.total_steps(self.num_images // self.cfg.training.batch_size)


def resolve_run(request: RunRequest) -> RunSetup:
    """Choose what the request leaves out, log it with the reasons, and return the run.

    Raises:
        UserError: there are no images, or settings do not fit together.
    """
    began, why = time.monotonic(), runs_small(request.training.accelerator, request.quick)
    modality = choose_modality(request.source, request.backbone, request.method)
    flag, request = "--student" if request.teacher else "--backbone", choose_recipe(request, why, modality).log(logger)
    request, seconds, most_epochs = _with_length(request)  # which a recipe may have
    requested = modality.with_named_views(usual_method(request, modality.name))
    _check_teacher(requested, request.teacher, modality)
    requested.check_modality(modality.name)
    _check_filters(request, requested)
    selection = part_of_source(request, seconds, modality)
    start = modality.load_start(request.start, request.backbone) if request.start else None
    check_early(replace(request, backbone=start.backbone) if start else request, requested, modality, selection, why)
    early = request.teacher if request.teacher and PATCH_FILTERS not in request.teacher.names else None
    loaded = resolve_teacher(early, request.teacher_module, modality, start=start)  # before hours of decoding
    data = open_data(request, requested, modality, selection).log(logger)
    Resolved(data, remarks_on_amount(request, modality, data)).log(logger)
    loaded = loaded or resolve_teacher(request.teacher, request.teacher_module, modality, data, start)
    backbone = _resolve_encoder(request, modality, data, why, flag, start)
    if loaded:
        loaded = with_matched_size(loaded, request.teacher_module, data, modality, requested, backbone).log(logger)
    teacher = prepare_teacher(loaded, data, request.training).log(logger) if loaded else None
    images = _num_images(data, teacher, requested)
    training = resolve_training(
        request.training, images, fixed=seconds is not None, steps=modality.usual_steps(data), nouns=modality.nouns
    ).log(logger)
    method = resolve_method(requested, data, teacher, training).log(logger)
    backbone = resolve_for_views(modality, method, backbone, training).log(logger)
    optim = request.optim or default_optim(backbone.name, teacher is not None, start is not None)
    training = _warm_up(training, optim, teacher is not None, seconds).log(logger) if start else training
    cfg = RunConfig(
        store=str(data.path.absolute()) if data.path else "",
        digest=data.digest,
        **vars(modality.selection(data)),
        **companion_of(data),
        method=method,
        backbone=backbone,
        optim=optim,
        training=training,
        teacher=teacher.cfg if teacher else None,
        start=start.cfg if start else None,
    )
    about: dict[str, Any] = {"requested_method": requested, "most_epochs": most_epochs, "seconds": seconds}
    setup = RunSetup(cfg=cfg, modality=modality, data=data, teacher=teacher, start=start, began=began, **about)
    logger.info(describe(setup))
    return setup


def chosen_method(request: RunRequest) -> MethodConfig:
    """Return the method that a run will have, before anything is opened; the name of its folder has it."""
    why = runs_small(request.training.accelerator, request.quick)
    modality = choose_modality(request.source, request.backbone, request.method)
    return usual_method(choose_recipe(request, why, modality).value, modality.name)


def reopen_run(run: Path, teacher_module: nn.Module | None = None, place: Place | None = None) -> RunSetup:
    """Return the run in a folder, at `place` if given, with the data and the teacher that it began with.

    Raises:
        UserError: the folder is not a run, its images were in memory, or its data or its teacher have changed.
    """
    cfg = at_place(read_config(run), place or {})
    if not cfg.store:
        raise UserError(
            f"'{run}' was trained on arrays in memory, which are gone: start it again from Python", code="data-gone"
        )
    if not Path(cfg.store).exists():
        raise UserError(
            f"the store '{cfg.store}' of '{run}' is not there: if it has moved, `limbeck resume {run} --store STORE`",
            code="store-missing",
        )
    modality = modality_of(cfg.backbone)
    data = reopen_companion(modality.reopen(cfg.store, cfg.backbone), cfg)
    if data.digest != cfg.digest:
        raise UserError(
            f"the store '{cfg.store}' has changed since '{run}' began: build it again from the same images",
            code="store-changed",
        )
    start = _reload_start(cfg, run, modality)
    with nullcontext() if (place or {}).get("teacher") else known_only():
        loaded = resolve_teacher(cfg.teacher, teacher_module, modality, data, start)
    teacher = prepare_teacher(loaded, data, cfg.training).log(logger) if loaded else None
    training = cfg.training
    images = _num_images(data, teacher, cfg.method)
    check_batch(training.batch_size, images, training.num_processes, training.accumulate_steps)
    return RunSetup(cfg=cfg, modality=modality, data=data, teacher=teacher, start=start, requested_method=cfg.method)


def resolve_teacher(
    cfg: TeacherConfig | None,
    teacher_module: nn.Module | None,
    modality: Modality[Any, Any],
    data: Dataset | None = None,
    start: LoadedStart | None = None,
) -> LoadedTeacher | None:
    """Load the teacher, if there is one, fit it to `data`, or copy the `start`; warn of its license."""
    if cfg is None:
        return None
    loaded = modality.load_teacher(cfg, teacher_module, data, start)
    for warning in filter(None, map(license_warning, loaded.members if cfg.name != START_TEACHER else ())):
        logger.warning(warning)
    return loaded


def _reload_start(cfg: RunConfig, run: Path, modality: Modality[Any, Any]) -> LoadedStart | None:
    """Return the weights that a run started from: those that its folder keeps, or else the start itself."""
    if cfg.start is None:
        return None
    copy = run / START
    source = replace(cfg.start, name=str(copy)) if copy.is_dir() else cfg.start
    return modality.load_start(source, cfg.backbone)._replace(cfg=cfg.start)


def resolve_training(
    training: TrainConfig,
    images: int,
    *,
    fixed: bool = False,
    steps: int | None = None,
    nouns: tuple[str, str] = ("image", "images"),
) -> Resolved[TrainConfig]:
    """Choose the batch for a set that is smaller than one, and the epochs; without a word if the time is `fixed`.

    `steps` is how many a run has without epochs; None: as many as suit the number of images. `nouns` are what one image
    is called, and several.
    """
    batch = fitting_batch(training.batch_size, images, training.num_processes, training.accumulate_steps)
    reasons = []
    if 0 < batch < training.batch_size:
        reasons.append(f"batch size {batch} instead of {training.batch_size}, since there are {images:,} {nouns[1]}")
    found = replace(training, batch_size=batch or training.batch_size)
    device = choose_device(training.accelerator).type
    if steps is not None and training.epochs == "auto":
        found = replace(found, epochs=float(-(-steps // max(images // found.batch_size, 1))))
    found = found.with_epochs(images, device)
    if training.epochs == "auto" and not fixed:
        total = found.total_steps(max(images // found.batch_size, 1))
        chosen = f"{plural(found.num_epochs, 'epoch')}, {plural(total, 'step')}, for {plural(images, *nouns)}"
        usual = f"{found.num_epochs / CPU_SHARE:g}"
        fewer = f", a tenth of what a GPU would take; more give better features (--epochs {usual}, or --time 8h)"
        reasons.append(chosen + (fewer if device == "cpu" and steps is None else " (--epochs)" if steps else ""))
    return Resolved(found, reasons)


def resolve_method(
    method: MethodConfig, data: Dataset, teacher: TeacherContext | None, training: TrainConfig
) -> Resolved[MethodConfig]:
    """Fill in what depends on the number of images, the batch and the features of the teacher."""
    images = _num_images(data, teacher, method)
    check_batch(training.batch_size, images, training.num_processes, training.accumulate_steps)
    context = DataContext(
        num_images=images,
        batch_size=training.batch_size,
        forward_batch_size=training.batch_size // training.accumulate_steps,
        num_classes=len(data.label_names) if data.labeled else 0,
        total_steps=training.total_steps(images // training.batch_size),
    )
    fitted = method.resolve(context)
    reasons = _describe_choices(method, fitted, f"{plural(images, 'image')} in batches of {training.batch_size}")
    if teacher is None:
        return Resolved(fitted, reasons)
    final, more = fitted.resolve_with_teacher(teacher.centered_features)
    return Resolved(final, [*reasons, *_describe_choices(fitted, final, "the teacher"), *more])


def describe(setup: RunSetup) -> str:
    """Describe a run in one sentence."""
    cfg = setup.cfg
    host = getattr(cfg.method, "host", None)
    over = f" over {host.name}" if host else ""
    teacher = f" from {cfg.teacher.name}" if cfg.teacher else ""
    start = f", starting from {cfg.start.name}" if cfg.start else ""
    return (
        f"{cfg.method.name}{over}{teacher} on {plural(setup.num_images, *setup.modality.nouns)}"
        f"{setup.modality.describe_views(cfg.method)}: "
        f"{cfg.backbone.name}, {cfg.optim.name}, learning rate {cfg.optim.lr:g} per 256 {setup.modality.nouns[1]}, "
        f"weight decay {cfg.optim.weight_decay:g}{start}"
    )


def _with_length(request: RunRequest) -> tuple[RunRequest, float | None, float | None]:
    """Return the request, the seconds that the run has, and its most epochs: an adaptation always has a length."""
    training = request.training
    adapts = request.teacher is not None and request.teacher.name == START_TEACHER
    if not adapts or request.time is not None or request.quick or training.epochs != "auto":
        return request, _seconds(request), None
    if training.num_processes > 1:
        return replace(request, training=replace(training, epochs=ADAPT_EPOCHS)), None, None
    logger.info("adapting for at most %s and %g epochs (--time, --epochs)", ADAPT_TIME, ADAPT_EPOCHS)
    return request, parse_duration(ADAPT_TIME), ADAPT_EPOCHS


def _seconds(request: RunRequest) -> float | None:
    """Return the time that a run has, if it has to end within one."""
    time = request.time or (QUICK if request.quick and request.training.epochs == "auto" else None)
    seconds = None if time is None else seconds_of(time)
    check_time(seconds, request.training)
    return seconds


def check_time(seconds: float | None, training: TrainConfig) -> None:
    """Raise UserError if a time is given together with epochs, or for several processes, whose speeds differ."""
    if seconds is None:
        return
    if training.epochs != "auto":
        raise UserError(
            f"a time ({format_duration(seconds)}) and epochs ({training.epochs:g}) are both given: leave one out",
            code="time-and-epochs",
        )
    if training.num_processes > 1:
        raise UserError(
            f"a time cannot be planned for {training.num_processes} processes: give epochs; `limbeck plan` says how "
            "long they take",
            code="time-with-processes",
        )


def _warm_up(
    training: TrainConfig, optim: OptimConfig, has_teacher: bool, seconds: float | None
) -> Resolved[TrainConfig]:
    """Return the settings of a run from trained weights; where it has a time, its epochs are chosen later."""
    warm = with_start_warmup(training) if seconds is None else training
    return Resolved(warm, start_reasons(optim, training, has_teacher))


def _resolve_encoder(
    request: RunRequest, modality: Modality[Any, Any], data: Dataset, why: str, flag: str, start: LoadedStart | None
) -> EncoderConfig:
    """Return the encoder of a run, that of its `start` or one with random weights, with what the data decide filled in.

    `flag` is the option that names another network.
    """
    if start:
        found: Resolved[EncoderConfig] = modality.fit_start(start.backbone, data)
    else:
        found = modality.resolve_encoder(_encoder(request, modality, data, why, flag), data)
    return found.log(logger)


def _encoder(request: RunRequest, modality: Modality[Any, Any], data: Dataset, why: str, flag: str) -> EncoderConfig:
    if request.backbone:
        return request.backbone
    if why:
        value, reasons = small_encoder(request.teacher, request.method, modality, data)
        return Resolved(value, [f"{why}: {reason.replace('--backbone', flag)}" for reason in reasons]).log(logger)
    return modality.default_student() if request.teacher else modality.default_encoder()


def _check_teacher(method: MethodConfig, teacher: TeacherConfig | None, modality: Modality[Any, Any]) -> None:
    """Raise UserError unless there is a teacher if the method needs one, and only then."""
    if teacher is None:
        method.raise_without_teacher()
        return
    if teacher.name == START_TEACHER:
        check_adapted(modality)
    distill_config(method.name)
    if not modality.takes_teachers:
        raise UserError(
            f"encoders of {modality.name} cannot be distilled from the teacher '{teacher.name}': train without one",
            code="no-teachers",
        )


def _check_filters(request: RunRequest, method: MethodConfig) -> None:
    """Raise UserError for patch filters that no network at the end of the run could be joined with."""
    adapts = request.teacher is not None and request.teacher.name == START_TEACHER
    if getattr(request.backbone, "patch_filters", 0) and (adapts or method.name == ClassifierConfig.name):
        raise UserError(
            f"patch filters have no effect on {'an adaptation' if adapts else 'a classifier'}, whose network is its "
            "own: leave patch_filters out",
            code="no-effect",
        )


def _describe_choices(requested: MethodConfig, resolved: MethodConfig, reason: str) -> list[str]:
    """Return a sentence for each setting that was filled in or changed, those of the host included."""
    sentences = []
    for name in (option.name for option in fields(resolved) if not option.metadata.get("internal")):
        before, value = getattr(requested, name), getattr(resolved, name)
        if isinstance(value, MethodConfig):
            sentences += _describe_choices(before, value, reason)
        elif value != before:
            instead = "" if before is None else f" instead of {before}"
            sentences.append(f"{resolved.name}: {name} set to {value}{instead}, to suit {reason}")
    return sentences


def _num_images(data: Dataset, teacher: TeacherContext | None, method: MethodConfig) -> int:
    rows = method.train_rows(data.labels) if teacher is None else teacher.train_indices
    return len(data) if rows is None else len(rows)
