"""Load a teacher from a name, a folder or a module, and try it on one image."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.core.errors import UserError, one_line
from limbeck.data.store.store import Store
from limbeck.models.hub import is_on_hub
from limbeck.models.pretrained import StatedPreprocessing, Triple, folder_config, is_transformers
from limbeck.models.start import LoadedStart
from limbeck.models.weights import check_digest, digest
from limbeck.teachers.config import PATCH_FILTERS, START_TEACHER, TeacherConfig
from limbeck.teachers.from_filters import from_filters
from limbeck.teachers.from_huggingface import from_huggingface
from limbeck.teachers.from_pretrained import from_pretrained
from limbeck.teachers.from_start import from_start
from limbeck.teachers.frozen import LoadedTeacher, TeacherFeatures, TeacherNetwork, TeacherSource


class ModuleTeacher(nn.Module):
    """A module of the user's that returns vectors [B D], a feature map [B C H W], or the pair of them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor, feature_map: bool) -> TeacherFeatures:
        """Map [B 3 S S] to [B D]; a feature map without a vector is pooled by its mean."""
        output = self.module(images)
        vector, found_map = output if isinstance(output, tuple) else (output, None)
        if vector.ndim == 4:
            vector, found_map = vector.mean(dim=(2, 3)), vector
        return TeacherFeatures(vector, found_map if feature_map else None)


def load_teacher(
    cfg: TeacherConfig,
    *,
    teacher_module: nn.Module | None = None,
    store: Store | None = None,
    start: LoadedStart | None = None,
) -> LoadedTeacher:
    """Return the teacher that `cfg` names, frozen, on the CPU and tried on one image of its size.

    With a `teacher_module` of your own (`ModuleTeacher` lists what it may return), `cfg` must have image size, mean and
    std, and its name is only a label; the module itself is frozen, not a copy of it. The teacher "patch-filters" is
    fitted to the images of `store`, and "start" is a copy of the weights `start` of a run.

    Raises:
        UserError: nothing has that name, weights are missing or belong to another network, the normalization is
            unknown, the image size does not fit, or the digest is another one than in `cfg`.
    """
    if cfg.weights is not None and (teacher_module is not None or _has_weights(cfg.name)):
        raise UserError(
            f"teacher.weights ({cfg.weights}) are for a timm model by name, and '{cfg.name}' has weights of its own: "
            "leave --teacher.weights out",
            code="teacher-weights-twice",
        )
    with torch.random.fork_rng(devices=[]):  # initial weights are overwritten and must not advance the run's generator
        source = _find(cfg, store, start) if teacher_module is None else _from_module(cfg, teacher_module)
    image_size, mean, std = _preprocessing(cfg, source.stated)
    _check_patches(cfg, image_size, source.patch)
    network = TeacherNetwork(
        source.network,
        precision=cfg.precision,
        batch_statistics=cfg.batch_statistics,
        convolutional=source.convolutional,
    ).cpu()
    dim, map_dim = _widths(cfg, network, image_size, source.stated.image_size)
    return LoadedTeacher(
        cfg=cfg,
        network=network,
        dim=dim,
        map_dim=map_dim,
        image_size=image_size,
        mean=mean,
        std=std,
        interpolation=source.stated.interpolation,
        digest=_checked_digest(cfg, source, image_size),
        license=source.license or cfg.license,
        further=_load_further(cfg, store),
    )


def _load_further(cfg: TeacherConfig, store: Store | None) -> tuple[LoadedTeacher, ...]:
    """Return the further teachers, each with the preprocessing that its source states."""
    digests = cfg.further_digests or ("",) * len(cfg.further)
    return tuple(
        load_teacher(TeacherConfig(name=name, precision=cfg.precision, digest=digest), store=store)
        for name, digest in zip(cfg.further, digests, strict=True)
    )


def _checked_digest(cfg: TeacherConfig, source: TeacherSource, image_size: int) -> str:
    """Return the digest of the network; UserError as `check_digest`."""
    identity = {**source.identity, "size": image_size, "batch_statistics": cfg.batch_statistics}
    found = digest(nn.Module() if source.fitted else source.network, identity)
    check_digest(cfg.name, cfg.digest, found)
    return found


def _has_weights(name: str) -> bool:
    return is_on_hub(name) or Path(name).is_dir()


def _find(cfg: TeacherConfig, store: Store | None, start: LoadedStart | None) -> TeacherSource:
    if cfg.name == PATCH_FILTERS:
        return from_filters(store)
    if cfg.name == START_TEACHER:
        return from_start(start)
    folder = Path(cfg.name)
    config = folder_config(folder) if folder.is_dir() and not is_on_hub(cfg.name) else None
    if config is None or not is_transformers(config):
        return from_pretrained(cfg)
    if cfg.depth is not None:
        raise UserError(
            f"teacher.depth ({cfg.depth}) is for networks of Limbeck and timm, and '{folder}' is a Hugging Face model: "
            "leave --teacher.depth out",
            code="teacher-depth",
        )
    return from_huggingface(cfg, config)


def _from_module(cfg: TeacherConfig, network: nn.Module) -> TeacherSource:
    if cfg.depth is not None:
        raise UserError(
            f"teacher.depth ({cfg.depth}) is for networks of Limbeck and timm: cut your own module yourself",
            code="teacher-depth",
        )
    unstated = StatedPreprocessing(None, None, None)
    return TeacherSource(ModuleTeacher(network), unstated, "", {"module": type(network).__qualname__})


def _preprocessing(cfg: TeacherConfig, stated: StatedPreprocessing) -> tuple[int, Triple, Triple]:
    """Return the value that the user gives, or else that of the source; never a guess."""
    given = {"image_size": cfg.pixels, "mean": cfg.mean, "std": cfg.std}
    found: dict[str, Any] = {name: value or getattr(stated, name) for name, value in given.items()}
    if unknown := [name for name, value in found.items() if value is None]:
        flags = " and ".join(f"--teacher.{name.replace('_', '-')}" for name in unknown)
        raise UserError(
            f"the source of the teacher '{cfg.name}' does not state its {' and '.join(unknown)}: give {flags}",
            code="unknown-preprocessing",
        )
    return found["image_size"], found["mean"], found["std"]


def _check_patches(cfg: TeacherConfig, size: int, patch: int | None) -> None:
    if patch is None or size % patch == 0:
        return
    below = size // patch * patch
    sizes = f"{below} or {below + patch}" if below else str(patch)
    raise UserError(
        f"the teacher '{cfg.name}' has patches of {patch} pixels, and {size} is not a multiple of that: "
        f"set --teacher.image-size to {sizes}",
        code="teacher-image-size",
    )


def _widths(cfg: TeacherConfig, network: TeacherNetwork, size: int, own_size: int | None) -> tuple[int, int]:
    """Return (D, C) of the features of an image of `size` pixels; raise UserError if the network has none for it."""
    images = torch.zeros(1 + cfg.batch_statistics, 3, size, size)  # BatchNorm may not accept one value per channel
    try:
        vector, found_map = network(images, feature_map=True)
    except Exception as error:  # a network may raise anything
        other = f"; its own size is {own_size}" if own_size not in (None, size) else ""
        raise UserError(
            f"the teacher '{cfg.name}' fails on images of {size} pixels: {one_line(error)}{other}",
            code="teacher-image-size",
        ) from error
    if vector.ndim != 2 or (found_map is not None and found_map.ndim != 4):
        shapes = [tuple(tensor.shape) for tensor in (vector, found_map) if tensor is not None]
        raise UserError(
            f"the teacher '{cfg.name}' returns shapes {shapes}: it must return vectors [B D] or feature maps [B C H W]",
            code="teacher-output",
        )
    return vector.shape[1], 0 if found_map is None else found_map.shape[1]
