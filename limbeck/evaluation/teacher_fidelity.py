"""Fidelity of a student to its teacher while it trains."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from limbeck.core.devices import resolve_bf16
from limbeck.core.types import Encoder
from limbeck.features.extract import extract
from limbeck.features.images import ImageFn
from limbeck.metrics.fidelity import NUM_NEIGHBORS, check_images, linear_cka, nearest_images, neighbor_agreement
from limbeck.teachers.frozen import teacher_features
from limbeck.teachers.setup import TeacherContext


def fidelity_callback(
    images: ImageFn, indices: np.ndarray, teacher: Tensor, device: torch.device, k: int = NUM_NEIGHBORS
) -> Callable[[Encoder], dict[str, float]]:
    """Return a function of an encoder that gives its `neighbor_agreement`, that of chance, and `cka` with the teacher.

    Args:
        images: the preprocessed images at `indices`, on `device`.
        indices: held-out images of the store, int64 [N].
        teacher: features of these images from the teacher [N D]; their neighbors are searched once.
        device: where the encoder is.
        k: neighbors per image.

    Raises:
        UserError: as `limbeck.metrics.fidelity.fidelity`.
    """
    check_images(len(indices), k)
    expected = teacher.to(device, torch.float32)
    neighbors = nearest_images(expected, k)

    def evaluate_encoder(backbone: Encoder) -> dict[str, float]:
        last = backbone.taps[-1]
        bf16 = resolve_bf16("auto", device)
        features = extract(backbone, images, indices, taps=(last,), device=device, bf16=bf16)[last]
        agreement = neighbor_agreement(nearest_images(features, k), neighbors)
        chance = k / (len(indices) - 1)
        cka, _ = linear_cka(features, expected)
        return {"neighbor_agreement": agreement, "neighbor_agreement_chance": chance, "cka": cka}

    return evaluate_encoder


def has_fidelity(context: TeacherContext) -> bool:
    """Return whether so many rows are held out that neighbors among them say something."""
    return len(context.val_indices) > NUM_NEIGHBORS + 1


def held_out_fidelity(images: ImageFn, context: TeacherContext) -> Callable[[Encoder], dict[str, float]]:
    """Return `fidelity_callback` on the rows that are held out; the teacher's features are computed at first use."""
    device, rows = context.device, context.val_indices

    @cache
    def callback() -> Callable[[Encoder], dict[str, float]]:
        text = "teacher features of held-out rows"
        features = teacher_features(context.teacher, context.store, rows, device=device, description=text)
        return fidelity_callback(images, rows, features, device)

    return lambda encoder: callback()(encoder)
