"""The keypoints that a detector finds in the images of a store, whole or the middle of those that are not square."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.augment.views import View
from limbeck.data.store.store import Store
from limbeck.features.extract import extract
from limbeck.features.images import ImageFn, augmented_images
from limbeck.keypoints.config import DEPTH, NORMALIZATION
from limbeck.keypoints.network import Detector


def whole_images(store: Store, size: int, device: torch.device) -> tuple[ImageFn, View]:
    """Return the loader of images of `size` pixels as in the training of a detector, but unflipped; and its view."""
    mean = std = NORMALIZATION
    view = View(size=size, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, mean=mean, std=std)
    return augmented_images(store, view, 0, device, seed=0), view


def find_keypoints(
    detector: Detector,
    store: Store,
    rows: NDArray[np.int64],
    device: torch.device,
    *,
    batch_size: int = 256,
    show: str = "",
) -> Float[Tensor, "N K 2"]:
    """Return (row, column) of every keypoint in the images at `rows` [N], from -1 to 1, on the CPU."""
    images, _ = whole_images(store, detector.cfg.image_size, device)
    found = extract(detector, images, rows, taps=[DEPTH], device=device, batch_size=batch_size, show=show)[DEPTH]
    return found.cpu().unflatten(1, (-1, 2))
