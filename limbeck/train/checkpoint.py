"""Checkpoints: written whole or not at all, read without running code, refused by a run of another configuration."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from limbeck.config import Json
from limbeck.disk import replacing
from limbeck.errors import UserError

VERSION = 1
CHECKPOINT = "checkpoint.ckpt"


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
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(path: Path, method: nn.Module, optimizer: Optimizer, config: Json) -> int:
    """Puts the state back and returns the number of optimiser steps that it has behind it.

    Raises:
        UserError: the file cannot be read, or is of another version or configuration.
    """
    state = _read(path)
    if state.get("version") != VERSION:
        raise UserError(
            f"{path} has version {state.get('version')}, and this Limbeck reads version {VERSION}; start anew"
        )
    difference = first_difference(json.loads(state["config"]), json.loads(json.dumps(config)))
    if difference:
        raise UserError(f"{path} belongs to another configuration: {difference}; use that, or another run folder")
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    step: int = state["step"]
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


def _read(path: Path) -> dict[str, Any]:
    unreadable = UserError(f"{path} is not a checkpoint that can be read; remove it to start anew")
    if not zipfile.is_zipfile(path):  # torch would try its old format, and fail in any of a dozen ways
        raise unreadable
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise unreadable from error
    return state
