"""One pass over a store: the images that a network is shown, and a bank of what it says of them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.data.augment import augment, eval_view
from limbeck.data.draw import draw
from limbeck.data.store import Store
from limbeck.data.views import View

Look = Callable[[np.ndarray], Tensor]
"""From rows of a store, int64 [B], to the images that a network sees, float32 [B 3 H W], normalised."""


def plain_look(
    store: Store,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> Look:
    """Images of `store` as they are, centre-cropped or resized to `size` pixels."""
    return lambda rows: eval_view(_pixels(store, rows, device), size, mean, std, interpolation)


def drawn_look(store: Store, view: View, number: int, device: torch.device, seed: int, epoch: int = 0) -> Look:
    """Images of `store` under `view`; the draw belongs to (seed, epoch, number, row), as in a loader's batches."""

    def look(rows: np.ndarray) -> Tensor:
        row_tensor, widths, heights = (torch.from_numpy(a) for a in (rows, store.widths[rows], store.heights[rows]))
        params = draw(view, number, row_tensor, widths, heights, store.size, seed, epoch)
        return augment(_pixels(store, rows, device), view, params, view.mean, view.std)

    return look


def collect(
    say: Callable[[Tensor], Mapping[int, Tensor]],
    look: Look,
    rows: np.ndarray,
    dims: Mapping[int, int],
    *,
    device: torch.device,
    batch_size: int = 256,
    memory: int = 2**32,
    show: str = "",
) -> dict[int, Tensor]:
    """What `say` answers to the images that `look` shows at `rows`: key -> float32 [N dims[key]].

    `say`, called once per batch, answers key -> [B dims[key]]. The result takes 4 N sum(dims) bytes: up to `memory`
    bytes it lies on `device`, above it is memory-mapped to an unnamed file in the system's folder for temporary files.
    `show` is the text of a progress bar; none if empty.
    """
    bank = _allocate(len(rows), dims, memory, device)
    for start in progress(range(0, len(rows), batch_size), show):
        part = slice(start, start + batch_size)
        for key, values in say(look(rows[part])).items():
            bank[key][part] = values
    return bank


def _pixels(store: Store, rows: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(store.images[rows])).to(device)


def _allocate(rows: int, dims: Mapping[int, int], memory: int, device: torch.device) -> dict[int, Tensor]:
    if 4 * rows * sum(dims.values()) <= memory:
        return {key: torch.empty(rows, dim, device=device) for key, dim in dims.items()}
    return {key: _mapped(rows, dim) for key, dim in dims.items()}


def _mapped(rows: int, dim: int) -> Tensor:
    with tempfile.TemporaryFile() as file:  # the mapping keeps the file alive; both go with the tensor
        return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, dim)))
