"""The images of a store as a network is shown them: as they are, or under a view."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.data.augment.apply import augment, eval_view
from limbeck.data.augment.params import sample_params
from limbeck.data.augment.views import View
from limbeck.data.store.store import Store

ImageFn = Callable[[np.ndarray], Tensor]
"""From rows of a store, int64 [B], to the images that a network sees, float32 [B 3 H W], normalised."""


def eval_images(
    store: Store,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> ImageFn:
    """Images of `store` as they are, centre-cropped or resized to `size` pixels."""
    return lambda rows: eval_view(_pixels(store, rows, device), size, mean, std, interpolation)


def augmented_images(store: Store, view: View, number: int, device: torch.device, seed: int, epoch: int = 0) -> ImageFn:
    """Images of `store` under `view`; the draw belongs to (seed, epoch, number, row), as in a loader's batches."""

    def look(rows: np.ndarray) -> Tensor:
        row_tensor, widths, heights = (torch.from_numpy(a) for a in (rows, store.widths[rows], store.heights[rows]))
        params = sample_params(view, number, row_tensor, widths, heights, store.size, seed, epoch)
        return augment(_pixels(store, rows, device), view, params, view.mean, view.std)

    return look


def _pixels(store: Store, rows: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(store.images[rows])).to(device)
