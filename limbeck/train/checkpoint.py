"""Checkpoints: written whole or not at all, read without running code, refused if the configuration differs."""

import json
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from limbeck.core.config import Json
from limbeck.core.disk import is_refusal, not_readable
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write
from limbeck.core.text import printable

logger = logging.getLogger(__name__)

VERSION = 1
TRAINING_PLACE = (  # settings of where a run computes and how it is watched
    *("precision", "attention", "memory_format", "measured_on", "compile", "accelerator", "devices", "num_nodes"),
    *("loggers", "log_every_steps"),
    *("eval_every_epochs", "health_every_steps", "checkpoint_every_minutes", "stop_on_collapse"),
)
DATA_PLACE = ("store", "exclude", "only", "max_images")  # the content has a digest
TEACHER_PLACE = ("name", "weights", "cache", "license", "precision")  # its digest is what counts
FOLDER = 0x10
"""Attribute of a record of an archive, of MS-DOS."""


def save_checkpoint(
    path: Path,
    step: int,
    method: nn.Module,
    optimizer: Optimizer,
    config: Json,
    scaler: torch.amp.GradScaler | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Write the state after `step` optimizer steps; a crash at any moment leaves the previous file intact.

    Weights, averages, queues and the optimizer are all there is: order, augmentations and random numbers follow from
    the seed (in `config`) and the step. fp16 adds the scale of the loss. `environment` is where it was computed.

    Raises:
        UserError: the disk is full.
    """
    state = {
        "version": VERSION,
        "config": json.dumps(config),
        "step": step,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler else {},
        "environment": dict(environment or {}),
    }
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(
    path: Path,
    method: nn.Module,
    optimizer: Optimizer,
    config: Json,
    scaler: torch.amp.GradScaler | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Restore the state and return the number of optimizer steps taken before it was saved.

    A warning says what differs between `environment` and that of the checkpoint.

    Raises:
        UserError: the file cannot be read, or is of another version or configuration.
    """
    state = _read(path)
    if state.get("version") != VERSION:
        raise UserError(
            f"{path} has version {state.get('version')!r}, and this Limbeck reads version {VERSION}; start a new run",
            code="checkpoint-version",
        )
    try:
        step, saved_config = state["step"], json.loads(state["config"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise unreadable(path) from error
    if type(step) is not int or step < 0:
        raise unreadable(path)
    if difference := first_difference(identity(saved_config), identity(json.loads(json.dumps(config)))):
        raise UserError(
            f"{path} belongs to another configuration: {difference}; use that one, or another run folder",
            code="checkpoint-config",
        )
    try:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        if scaler:
            scaler.load_state_dict(state["scaler"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} does not hold the state of this network and optimizer ({one_line(error)}); "
            "remove it to start from the beginning",
            code="checkpoint-state",
        ) from error
    _warn_of_changes(state.get("environment"), environment or {}, step)
    return step


def _warn_of_changes(saved: Any, current: Mapping[str, str], step: int) -> None:
    """Warn where the run was computed in another way before, so that its numbers change in their last digits."""
    if not isinstance(saved, dict):
        return
    changes = [
        f"{name} {printable(str(saved[name]))} until step {step:,}, {value} from here on"
        for name, value in current.items()
        if saved.get(name, value) != value
    ]
    if changes:
        logger.warning("%s: the numbers differ by rounding from those of an uninterrupted run", "; ".join(changes))


def identity(config: Json) -> Json:
    """Return the part of a configuration that its numbers follow from: not where it runs, and how it is watched."""
    if not isinstance(config, dict):
        return config
    config = {key: value for key, value in config.items() if key not in DATA_PLACE}
    if isinstance(training := config.get("training"), dict):
        config["training"] = {key: value for key, value in training.items() if key not in TRAINING_PLACE}
    if isinstance(teacher := config.get("teacher"), dict):
        config["teacher"] = {key: value for key, value in teacher.items() if key not in TEACHER_PLACE}
    return config


def first_difference(saved: Json, current: Json, where: str = "") -> str:
    """Return the first field, by its dotted name, that differs, with both values; an empty string if none does."""
    if isinstance(saved, dict) and isinstance(current, dict):
        inner = (
            first_difference(saved.get(key), current.get(key), f"{where}.{key}" if where else key)
            for key in [*saved, *(key for key in current if key not in saved)]
        )
        return next((difference for difference in inner if difference), "")
    return "" if saved == current else f"{where} was {json.dumps(saved)} and is {json.dumps(current)}"


def unreadable(path: Path) -> UserError:
    """Return the error for a file that is no checkpoint, or half of one."""
    return UserError(
        f"{path} is not a readable checkpoint; remove it to start from the beginning", code="checkpoint-unreadable"
    )


def _is_plain(record: zipfile.ZipInfo) -> bool:
    """Return whether torch fills the memory of a record: it leaves what was there if the record is marked a folder."""
    return record.file_size == record.compress_size and not record.external_attr & FOLDER


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a whole checkpoint; torch itself verifies neither checksums nor unpacked sizes."""
    try:
        with zipfile.ZipFile(path) as archive:
            if not all(map(_is_plain, archive.infolist())) or archive.testzip():
                raise unreadable(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # archives and pickles of arbitrary bytes raise any of a dozen kinds
        raise (not_readable(path, error) if is_refusal(error) else unreadable(path)) from error
    if not isinstance(state, dict):
        raise unreadable(path)
    return state
