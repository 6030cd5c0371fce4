"""Files of weights, read without running code in them, and what does not fit the network in one sentence."""

import json
import re
import warnings
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from limbeck.core.errors import UserError, one_line

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")
MAGIC = (b"PK\x03\x04", b"\x80")  # what files of torch.save begin with: an archive, formerly a pickle
MAX_NAMES_SHOWN = 3  # of each kind of mismatch
# What timm's loaders raise for files that are damaged, of another architecture, or out of reach
LOADING_ERRORS = (RuntimeError, OSError, KeyError, ValueError, TypeError, AttributeError, EOFError, AssertionError)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file, without the wrappers of timm's trainers, of DDP and of torch.compile.

    A checkpoint of several networks, such as DINO's `{"teacher": ..., "student": ...}`, gives the tensors of all of
    them, with the key of the network as a prefix.
    """
    if not path.is_file():
        raise UserError(f"the file of weights '{path}' does not exist", code="file-not-found")
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"'{path}' is not a weights file: it must end in one of {', '.join(SUFFIXES)}", code="weights-format"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's, of the pickle protocol
            content = timm.models.load_state_dict(str(path), weights_only=True)
    except (*LOADING_ERRORS, SafetensorError) as error:
        raise UserError(
            f"'{path}' cannot be read as weights: {_reason(error, path)}", code="weights-unreadable"
        ) from error
    if not any(isinstance(value, Tensor) for value in content.values()):
        content = _of_all_networks(content) or content
    if others := [str(name) for name, value in content.items() if not isinstance(value, Tensor)]:
        raise UserError(
            f"'{path}' holds more than tensors ({listed(others)}): save the state dict of the network alone",
            code="weights-format",
        )
    return dict(content)


def _reason(error: BaseException, path: Path) -> str:
    """Return why a file cannot be read, with the way out, in place of torch's advice to run what is in it."""
    if isinstance(error, OSError):
        return f"{one_line(error)}; copy or save it again"
    with path.open("rb") as file:
        start = file.read(len(MAGIC[0]))
    if not start:
        return "it is empty; copy or save it again"
    if path.suffix != SUFFIXES[0] and start.startswith(MAGIC):
        if "weights_only" in str(error):
            return "it holds Python objects, which could run code, and is not opened; save `model.state_dict()` alone"
        if isinstance(error, AttributeError | TypeError):
            return "it holds no state dict; save `model.state_dict()` alone"
    kind = "safetensors" if path.suffix == SUFFIXES[0] else "PyTorch"
    return f"it is damaged, or no file of {kind}; copy or save it again"


def _of_all_networks(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of every state dict in a checkpoint, under KEY.NAME; settings and optimizers are left out."""
    networks = {
        key: value
        for key, value in content.items()
        if isinstance(value, dict) and value and all(isinstance(tensor, Tensor) for tensor in value.values())
    }
    return {f"{key}.{name}": tensor for key, state in networks.items() for name, tensor in state.items()}


def without_classifier(weights: dict[str, Tensor], classifier: str | tuple[str, ...] | None) -> dict[str, Tensor]:
    """Return all but the weight and bias of the classifier that timm names, which a backbone does not have."""
    names = (classifier,) if isinstance(classifier, str) else classifier or ()
    dropped = {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    return {name: tensor for name, tensor in weights.items() if name not in dropped}


def mismatch(error: BaseException) -> str:
    """Summarize torch's report of missing, unexpected or differently shaped names, and say what helps."""
    lines = str(error).split("\n\t")
    kinds = {
        "missing": [name for line in lines if line.startswith("Missing") for name in re.findall(r'"([^"]+)"', line)],
        "unexpected": sorted(name for ln in lines if ln.startswith("Unexp") for name in re.findall(r'"([^"]+)"', ln)),
        "of another shape": re.findall(r"size mismatch for (\S+):", str(error)),
    }
    parts = [f"{len(names)} {kind} ({listed(names)})" for kind, names in kinds.items() if names]
    return f"{'; '.join(parts) or one_line(error)}; name the network that they are of, or rename them as timm does"


def listed(names: list[str]) -> str:
    """Return the first few names."""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (" ..." if len(names) > MAX_NAMES_SHOWN else "")


def digest(network: nn.Module, identity: Mapping[str, Any]) -> str:
    """Return the sha256 of names, shapes, dtypes and bytes of the state dict, by name, and of `identity` as JSON."""
    found = sha256(json.dumps(identity, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def check_digest(name: str, recorded: str, found: str) -> None:
    """Raise UserError if the teacher `name` had another digest than `found` when it was recorded, if it was."""
    if recorded not in ("", found):
        raise UserError(
            f"the teacher '{name}' has changed (digest {found[:12]} instead of {recorded[:12]}): "
            "restore the former one, or start a new run with this one",
            code="teacher-changed",
        )
