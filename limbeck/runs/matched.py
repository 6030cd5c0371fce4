"""A teacher whose input size follows from the feature map of the student (`--teacher.image-size auto`)."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from limbeck.core.config import EncoderConfig
from limbeck.core.resolved import Resolved
from limbeck.core.types import Dataset
from limbeck.data.store.store import Store
from limbeck.methods import MethodConfig
from limbeck.modalities import Modality
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.teachers.load import load_teacher
from limbeck.teachers.matched_grid import matched_size


def with_matched_size(
    teacher: LoadedTeacher,
    teacher_module: nn.Module | None,
    data: Dataset,
    modality: Modality[Any, Any],
    method: MethodConfig,
    student: EncoderConfig,
) -> Resolved[LoadedTeacher]:
    """Return the teacher, loaded again with the size that suits the student if its own is "auto"."""
    if teacher.cfg.image_size != "auto":
        return Resolved(teacher, [])
    size = modality.make_views(method, student)[0].augmentation.size
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        encoder = modality.build_encoder(student).eval()
        last = encoder.taps[-1]
        places = encoder(torch.zeros(1, 3, size, size), (last,), feature_maps=True).feature_maps[last].shape[-1]
    found = matched_size(teacher, places, size)
    cfg, store = replace(teacher.cfg, image_size=found.value), data if isinstance(data, Store) else None
    return Resolved(load_teacher(cfg, teacher_module=teacher_module, store=store), found.reasons)
