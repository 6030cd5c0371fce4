"""One pass over a store: the features of every tap of a backbone."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.backbones import Backbone
from limbeck.data.augment import augment, eval_view
from limbeck.data.draw import draw
from limbeck.data.store import Store
from limbeck.data.views import View
from limbeck.evaluate.progress import progress
from limbeck.hardware import native_bf16

Look = Callable[[np.ndarray], Tensor]
"""From rows of a store, int64 [B], to the images that a backbone sees, float32 [B 3 H W], normalised."""


def plain_look(store: Store, size: int, mean: Sequence[float], std: Sequence[float], device: torch.device) -> Look:
    """Images of `store` as they are, centre-cropped or resized to `size` pixels."""
    return lambda rows: eval_view(_pixels(store, rows, device), size, mean, std)


def augmented_look(
    store: Store, view: View, index: int, mean: Sequence[float], std: Sequence[float], device: torch.device, seed: int
) -> Look:
    """Images of `store` under `view`; the draw belongs to (seed, index, row), whatever the batches."""

    def look(rows: np.ndarray) -> Tensor:
        row_tensor, widths, heights = (torch.from_numpy(a) for a in (rows, store.widths[rows], store.heights[rows]))
        params = draw(view, index, row_tensor, widths, heights, store.size, seed, 0)
        return augment(_pixels(store, rows, device), view, params, mean, std)

    return look


def extract(
    backbone: Backbone,
    look: Look,
    rows: np.ndarray,
    *,
    taps: Sequence[int] | None = None,
    device: torch.device,
    batch_size: int = 256,
    bf16: bool = False,
    memory: int = 2**32,
    show: str = "",
) -> dict[int, Tensor]:
    """Pooled features at `taps` (all if None), tap -> float32 [N D_tap], of the images that `look` shows at `rows`.

    One forward pass per batch, in eval mode (the mode of `backbone`, which is moved to `device`, is restored). The
    result takes 4 N sum(D_tap) bytes: up to `memory` bytes it lies on `device`, above it is memory-mapped to an unnamed
    file in the system's folder for temporary files. `show` is the text of a progress bar; none if empty.
    """
    backbone.to(device)
    dims = {tap: backbone.tap_dims[tap] for tap in backbone.taps if taps is None or tap in taps}
    bank = _allocate(len(rows), dims, memory, device)
    starts = range(0, len(rows), batch_size)
    with torch.inference_mode(), _eval_mode(backbone):
        for start in progress(starts, show):
            part = slice(start, start + batch_size)
            images = look(rows[part])
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                found = backbone(images, taps=tuple(dims)).taps
            for tap, values in found.items():
                bank[tap][part] = values
    return bank


def use_bf16(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> bool:
    """Whether to run in bf16; "auto" is where the hardware has it."""
    return native_bf16(device.type) if precision == "auto" else precision == "bf16"


def _pixels(store: Store, rows: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(store.images[rows])).to(device)


def _allocate(rows: int, dims: dict[int, int], memory: int, device: torch.device) -> dict[int, Tensor]:
    if 4 * rows * sum(dims.values()) <= memory:
        return {tap: torch.empty(rows, dim, device=device) for tap, dim in dims.items()}
    return {tap: _mapped(rows, dim) for tap, dim in dims.items()}


def _mapped(rows: int, dim: int) -> Tensor:
    with tempfile.TemporaryFile() as file:  # the mapping keeps the file alive; both go with the tensor
        return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, dim)))


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
