"""Checkpoints: written whole or not at all, read without running code, refused by a run of another configuration."""

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from limbeck.core.config import Json
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write

VERSION = 1


def save_checkpoint(path: Path, step: int, method: nn.Module, optimizer: Optimizer, config: Json) -> None:
    """Writes the state after `step` optimiser steps; a crash at any moment leaves the previous file as it was.

    Weights, averages, queues and the optimiser are all there is: order, augmentations and random numbers follow from
    the seed (in `config`) and the step, and bf16 needs no scaler of gradients.

    Raises:
        UserError: the disk is full.
    """
    state = {
        "version": VERSION,
        "config": json.dumps(config),
        "step": step,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(path: Path, method: nn.Module, optimizer: Optimizer, config: Json) -> int:
    """Puts the state back and returns the number of optimiser steps that it has behind it.

    Raises:
        UserError: the file cannot be read, or is of another version or configuration.
    """
    state = _read(path)
    if state.get("version") != VERSION:
        raise UserError(
            f"{path} has version {state.get('version')!r}, and this Limbeck reads version {VERSION}; start anew"
        )
    try:
        step, theirs = state["step"], json.loads(state["config"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise unreadable(path) from error
    if type(step) is not int or step < 0:
        raise unreadable(path)
    if difference := first_difference(theirs, json.loads(json.dumps(config))):
        raise UserError(f"{path} belongs to another configuration: {difference}; use that, or another run folder")
    try:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} does not hold the state of this network and optimiser ({one_line(error)}); remove it to start anew"
        ) from error
    return step


def first_difference(theirs: Json, ours: Json, where: str = "") -> str:
    """The first field, by its dotted name, whose value differs, with both values; empty when there is none."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        inner = (
            first_difference(theirs.get(key), ours.get(key), f"{where}.{key}" if where else key)
            for key in [*theirs, *(key for key in ours if key not in theirs)]
        )
        return next((difference for difference in inner if difference), "")
    return "" if theirs == ours else f"{where} was {json.dumps(theirs)} and is {json.dumps(ours)}"


def unreadable(path: Path) -> UserError:
    """The error of a file that is no checkpoint, or half of one."""
    return UserError(f"{path} is not a checkpoint that can be read; remove it to start anew")


def _read(path: Path) -> dict[str, Any]:
    """The content of a whole checkpoint; torch itself neither looks at checksums nor minds what records unpack to."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [record for record in archive.infolist() if record.file_size != record.compress_size]
            if packed or archive.testzip():
                raise unreadable(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # archives and pickles of any bytes raise any of a dozen kinds
        raise unreadable(path) from error
    if not isinstance(state, dict):
        raise unreadable(path)
    return state
