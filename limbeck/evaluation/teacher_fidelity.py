"""Fidelity of a student to its teacher while it trains."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from limbeck.core.devices import resolve_bf16
from limbeck.core.types import Encoder
from limbeck.features.extract import extract
from limbeck.features.images import ImageFn
from limbeck.metrics.fidelity import NUM_NEIGHBORS, check_images, linear_cka, nearest_images, neighbor_agreement


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
