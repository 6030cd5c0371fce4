"""From a name, a folder or a module to a frozen teacher that is known to answer."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.core.errors import UserError, one_line
from limbeck.core.files import read_json
from limbeck.core.run_folder import ENCODER
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.from_huggingface import from_huggingface
from limbeck.teachers.from_timm import HUB, from_hub, from_limbeck, from_timm_folder, from_timm_name
from limbeck.teachers.frozen import Found, LoadedTeacher, Sight, TeacherFeatures, TeacherNetwork, Triple, digest


class ModuleTeacher(nn.Module):
    """A module of the user's, whose answer is a tensor [B D], a map [B C H W], or the pair of them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor, maps: bool) -> TeacherFeatures:
        """A map alone is pooled by its mean."""
        said = self.module(images)
        vector, found = said if isinstance(said, tuple) else (said, None)
        if vector.ndim == 4:
            vector, found = vector.mean(dim=(2, 3)), vector
        return TeacherFeatures(vector, found if maps else None)


def load_teacher(cfg: TeacherConfig, *, teacher_module: nn.Module | None = None) -> LoadedTeacher:
    """The teacher that `cfg` names, frozen, on the CPU, tried on one image of its size.

    A `teacher_module` of your own (see `ModuleTeacher` for what it may answer) needs size, mean and std in `cfg`, whose name is
    then only a label; it is frozen itself, not a copy of it.

    Raises:
        UserError: nothing of that name, weights that are missing or of another network, an unknown normalisation, a
            size that it cannot serve, another digest than `cfg` has.
    """
    if cfg.weights is not None and (teacher_module is not None or _is_elsewhere(cfg.name)):
        raise UserError(f"teacher.weights are for a timm model by name: '{cfg.name}' brings its own")
    with torch.random.fork_rng(devices=[]):  # random starts are overwritten and must not move the run's generator
        found = _find(cfg) if teacher_module is None else _from_module(cfg, teacher_module)
    size, mean, std = _preprocessing(cfg, found.sight)
    _check_patches(cfg, size, found.patch)
    frozen = TeacherNetwork(
        found.network,
        precision=cfg.precision,
        batch_statistics=cfg.batch_statistics,
        convolutional=found.convolutional,
    ).cpu()
    dim, map_dim = _widths(cfg, frozen, size, found.sight.image_size)
    mark = digest(found.network, {**found.about, "size": size, "batch_statistics": cfg.batch_statistics})
    if cfg.digest not in ("", mark):
        raise UserError(
            f"teacher '{cfg.name}' is not the network that it was (digest {mark[:12]} instead of {cfg.digest[:12]}): "
            "put that one back, or start anew with this one"
        )
    return LoadedTeacher(
        network=frozen,
        dim=dim,
        map_dim=map_dim,
        size=size,
        mean=mean,
        std=std,
        interpolation=found.sight.interpolation,
        digest=mark,
        source=cfg.name if cfg.weights is None else f"{cfg.name} with {cfg.weights}",
        license=found.license or cfg.license,
    )


def _is_elsewhere(name: str) -> bool:
    return name.startswith(HUB) or Path(name).is_dir()


def _find(cfg: TeacherConfig) -> Found:
    if cfg.name.startswith(HUB):
        return from_hub(cfg)
    folder = Path(cfg.name)
    if not folder.is_dir():
        return from_timm_name(cfg)
    if (folder / ENCODER).is_dir():
        return from_limbeck(cfg)
    config = _read_config(folder)
    if "limbeck" in config:
        return from_limbeck(cfg)
    if "architecture" in config:
        return from_timm_folder(cfg, config)
    if "model_type" not in config:
        raise UserError(f"'{folder}' is no teacher: its config.json is neither Limbeck's, timm's nor Hugging Face's")
    if cfg.depth is not None:
        raise UserError(f"teacher.depth cuts networks of Limbeck and timm: '{folder}' is a Hugging Face model")
    return from_huggingface(cfg, config)


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"'{folder}' is no teacher: it has no config.json (and no encoder/, as a run has)")
    config = read_json(file)
    if not isinstance(config, dict):
        raise UserError(f"{file} is no configuration: it holds no object with keys")
    return config


def _from_module(cfg: TeacherConfig, network: nn.Module) -> Found:
    if cfg.depth is not None:
        raise UserError("teacher.depth cuts networks of Limbeck and timm: cut a module of your own yourself")
    return Found(ModuleTeacher(network), Sight(None, None, None), "", {"module": type(network).__qualname__})


def _preprocessing(cfg: TeacherConfig, sight: Sight) -> tuple[int, Triple, Triple]:
    """What the user says, or else what the source does; never a guess."""
    found: dict[str, Any] = {name: getattr(cfg, name) or getattr(sight, name) for name in ("image_size", "mean", "std")}
    if unknown := [name for name, value in found.items() if value is None]:
        flags = " and ".join(f"--teacher.{name.replace('_', '-')}" for name in unknown)
        raise UserError(
            f"nothing says with which {' and '.join(unknown)} the teacher '{cfg.name}' was trained: give {flags}"
        )
    return found["image_size"], found["mean"], found["std"]


def _check_patches(cfg: TeacherConfig, size: int, patch: int | None) -> None:
    if patch is None or size % patch == 0:
        return
    below = size // patch * patch
    sizes = f"{below} or {below + patch}" if below else str(patch)
    raise UserError(
        f"teacher '{cfg.name}' sees patches of {patch} pixels: give --teacher.image-size {sizes}, not {size}"
    )


def _widths(cfg: TeacherConfig, network: TeacherNetwork, size: int, own: int | None) -> tuple[int, int]:
    """(D, C) of what the network says of an image of `size` pixels; UserError if it says nothing of use."""
    images = torch.zeros(1 + cfg.batch_statistics, 3, size, size)  # BatchNorm may refuse one value per channel
    try:
        vector, found = network(images, maps=True)
    except Exception as error:  # a network may raise anything
        other = f"; its own size is {own}" if own not in (None, size) else ""
        raise UserError(f"teacher '{cfg.name}' cannot see images of {size} pixels: {one_line(error)}{other}") from error
    if vector.ndim != 2 or (found is not None and found.ndim != 4):
        shapes = [tuple(tensor.shape) for tensor in (vector, found) if tensor is not None]
        raise UserError(f"teacher '{cfg.name}' answers in shapes {shapes}: vectors [B D] and maps [B C H W] are needed")
    return vector.shape[1], 0 if found is None else found.shape[1]
