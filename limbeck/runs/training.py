"""Train a run in its folder, from its setup to its encoder."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from limbeck.core.config import Json, to_json
from limbeck.core.disk import room_warning
from limbeck.core.distributed import peer_failure_as_user_error
from limbeck.core.files import replaced_folder
from limbeck.core.locks import exclusive_lock
from limbeck.core.rank import is_rank0
from limbeck.core.run_folder import ADAPTATION, ADAPTED, ENCODER, STAGE, START
from limbeck.core.types import Encoder
from limbeck.core.unfinished import remove_abandoned
from limbeck.data.sampling import SamplingPlan
from limbeck.methods.base import Trainable
from limbeck.metrics.fidelity import NUM_NEIGHBORS
from limbeck.modalities import modality_of
from limbeck.runs.config import RunConfig, write_config
from limbeck.runs.folder import check_new_run, record_job
from limbeck.runs.measured_kernels import with_kernels
from limbeck.runs.resolve import RunSetup
from limbeck.runs.run_length import estimate_run, fit_to_time
from limbeck.runs.save_classifier import save_classifier
from limbeck.runs.views import make_views
from limbeck.teachers.config import PATCH_FILTERS, START_TEACHER
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.teachers.setup import build_distillation_inputs, image_targets
from limbeck.teachers.warnings import NetworkCost, student_cost_warning
from limbeck.train.config import TrainConfig
from limbeck.train.eval_callback import EvalCallback, evaluate_encoder
from limbeck.train.launch import launch
from limbeck.train.loop import train

logger = logging.getLogger(__name__)


def train_run(
    setup: RunSetup, run: Path, begin_log: Callable[[], None], *, resume: bool = False, stop_on_collapse: bool = True
) -> Path:
    """Train a run and write its encoder, also next to every checkpoint; return its folder.

    With `resume`, continue from the checkpoint in the folder. Without `stop_on_collapse`, a collapse does not end the
    run, whatever its configuration says. `begin_log` is called once the folder is ours.
    """
    with _exclusive(run):
        if not resume:
            check_new_run(run)
        remove_abandoned(run)
        _start_processes(setup.cfg.training)
        complete = _completion(setup, run) if is_rank0() else None
        setup, trainable = (setup, build_method(setup, run)) if resume else prepare_run(setup, run)
        method, views, sampling = trainable
        cfg, config = setup.cfg, to_json(setup.cfg)
        if is_rank0():
            if setup.start and not (resume and (run / START).is_dir()):  # for evaluations, and to begin again
                setup.modality.save_encoder(method.encoder(), run / START, setup.data, cfg.backbone, {"run": config})
            write_config(run, cfg)
            record_job(run)
        begin_log()
        eval_callback = setup.modality.make_eval_callback(setup.data, cfg.backbone, setup.teacher)

        def save_encoder(encoder: Encoder, name: str = ENCODER, **more: Json) -> None:
            with replaced_folder(run / name) as folder:
                setup.modality.save_encoder(encoder, folder, setup.data, cfg.backbone, {"run": config, **more})

        train(
            method,
            setup.data,
            views,
            replace(cfg.training, stop_on_collapse=cfg.training.stop_on_collapse and stop_on_collapse),
            cfg.optim,
            run,
            config=config,
            eval_callback=eval_callback,
            sampling=sampling,
            loader=setup.modality.loader,
            save_encoder=lambda stage: save_encoder(method.encoder(), **{STAGE: stage}),
            resume=resume,
        )
        if is_rank0() and setup.adapts:
            _save_better(setup, run, method.encoder(), save_encoder)
        elif complete:
            save_encoder(encoder := complete(method.encoder()))
            save_classifier(method, setup, run)
            _log_fidelity(setup, eval_callback, encoder)
    return run


def _completion(setup: RunSetup, run: Path) -> Callable[[Encoder], Encoder]:
    """Return the function that turns the trained encoder into that of the run."""
    targets = partial(image_targets, setup.teacher, run) if setup.teacher else None
    completion: Callable[[Encoder], Encoder] = setup.modality.completion(setup.cfg.backbone, setup.data, targets)
    return completion


def _start_processes(cfg: TrainConfig) -> None:
    """Start the other processes of a run before the teacher's pass: they divide its work."""
    if cfg.num_processes > 1:
        launch(cfg)


def prepare_run(setup: RunSetup, run: Path) -> tuple[RunSetup, Trainable]:
    """Build the method of a new run and log what the run will cost; fit its steps into a time that was given.

    Several processes estimate on their first steps, together, and not here.
    """
    trainable = build_method(setup, run, setup.ends)
    if setup.cfg.training.num_processes > 1:
        return setup, trainable
    setup, estimate = with_kernels(setup, trainable, estimate_run(setup, trainable))
    planned = fit_to_time(setup, estimate)
    if planned.cfg.method != setup.cfg.method:
        trainable = build_method(planned, run)
    logger.info("%s", estimate.with_steps(planned.total_steps))
    if warning := room_warning(run, estimate.run_bytes):
        logger.warning("%s", warning)
    return planned, trainable


def build_method(setup: RunSetup, run: Path, ends: float = math.inf) -> Trainable:
    """Build the method of a run around a fresh encoder.

    Features of a teacher may be cached in `run`; UserError if they take longer than until `ends` (`time.monotonic`).
    """
    cfg, encoder, teacher = setup.cfg, _initial_encoder(setup), setup.teacher
    views = make_views(setup.modality, cfg.method, cfg.backbone, cfg.training)
    if teacher is None:
        rows, trainable = cfg.method.train_rows(setup.data.labels), cfg.method.prepare(encoder, views)
        return trainable if rows is None else trainable._replace(sampling=SamplingPlan(indices=rows))
    if is_rank0():
        _warn_of_cost(encoder, setup.modality.example(cfg.backbone, setup.data), teacher.teacher)
    return cfg.method.prepare(encoder, views, partial(build_distillation_inputs, teacher, run=run, ends=ends))


def fresh_encoder(cfg: RunConfig) -> Encoder:
    """Build the encoder with the initial weights that follow from the seed of the run."""
    torch.manual_seed(cfg.training.seed)
    return modality_of(cfg.backbone).build_encoder(cfg.backbone)


def _warn_of_cost(student: Encoder, row: Tensor, teacher: LoadedTeacher) -> None:
    """Warn of a student that costs more for a `row` than its teachers, before it is trained.

    Patch filters and the start are no networks to be made smaller.
    """
    members = [member for member in teacher.members if member.cfg.name not in (PATCH_FILTERS, START_TEACHER)]
    costs = [NetworkCost.of(member.network, member.example(row)) for member in members]
    if costs and (warning := student_cost_warning(NetworkCost.of(student, row), NetworkCost.total(costs))):
        logger.warning(warning)


def _initial_encoder(setup: RunSetup) -> Encoder:
    """Build the encoder with the weights that the run starts from."""
    encoder = fresh_encoder(setup.cfg)
    if setup.start:
        encoder.load_state_dict(setup.start.weights)
    return encoder


def _save_better(setup: RunSetup, run: Path, adapted: Encoder, save_encoder: Callable[..., None]) -> None:
    """Compare an adapted encoder with its start, write the evidence, and save the better one as the run's encoder."""
    assert setup.teacher is not None, "the start is the teacher of an adaptation"
    start = _initial_encoder(setup)
    found = setup.modality.compare_with_start(start, adapted, setup.data, setup.cfg.backbone, setup.teacher)
    save_encoder(adapted if found.weights == "adapted" else start, weights=found.weights)
    if found.weights == "start":
        save_encoder(adapted, ADAPTED, weights="adapted")
    found.save(run / ADAPTATION)
    logger.info("%s", found.sentence())


@contextmanager
def _exclusive(run: Path) -> Iterator[None]:
    """Let no other command train in the folder, and turn the end of one process of the run into an error of all."""
    ended = f"another process of this run has ended, and this one with it; continue with `limbeck resume {run}`"
    with exclusive_lock(run) if is_rank0() else nullcontext(), peer_failure_as_user_error(ended):
        yield


def _log_fidelity(setup: RunSetup, eval_callback: EvalCallback | None, encoder: Encoder) -> None:
    """Log how similar student and teacher are on the images that were held out."""
    if setup.teacher is None or eval_callback is None:
        return
    scores, images = evaluate_encoder(eval_callback, encoder), len(setup.teacher.val_indices)
    if "neighbor_agreement" in scores:
        logger.info(
            "held-out fidelity (%s images): %.1f %% of the teacher's %d nearest neighbors preserved (chance %.1f %%), "
            "linear CKA %.2f",
            f"{images:,}",
            100 * scores["neighbor_agreement"],
            NUM_NEIGHBORS,
            100 * scores["neighbor_agreement_chance"],
            scores["cka"],
        )
