"""Images of a store as the input of a network: unaugmented, or under a view."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.data.augment.apply import augment, eval_view
from limbeck.data.augment.draw_parameters import sample_params
from limbeck.data.augment.views import View
from limbeck.data.store.layout import Pixels
from limbeck.data.store.store import Store

ImageFn = Callable[[np.ndarray], Tensor]
"""From rows of a store, int64 [B], to normalized images, float32 [B 3 H W]."""


def eval_images(
    store: Store,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> ImageFn:
    """Return a function that crops the center of the images of `store` or resizes them to `size` pixels."""
    return lambda rows: eval_view(_pixels(store, rows, device), size, mean, std, interpolation)


def augmented_images(store: Store, view: View, number: int, device: torch.device, seed: int, epoch: int = 0) -> ImageFn:
    """Return a function that augments images; a draw follows from (seed, epoch, number, row), as in a loader."""

    def images(rows: np.ndarray) -> Tensor:
        row_tensor, widths, heights = (torch.from_numpy(a) for a in (rows, store.widths[rows], store.heights[rows]))
        params = sample_params(view, number, row_tensor, widths, heights, store.size, seed, epoch)
        return augment(_pixels(store, rows, device), view, params, view.mean, view.std)

    return images


def to_pixels(images: Tensor, view: View) -> Pixels:
    """Return normalized images of a view, float32 [B 3 H W], as pixels, uint8 [B H W 3]."""
    std, mean = (torch.tensor(values).view(3, 1, 1) for values in (view.std, view.mean))
    pixels: Pixels = (255 * (images * std + mean)).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels


def _pixels(store: Store, rows: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(store.images[rows])).to(device)
