"""One pass over a store: a bank of what any network says of its images, and of every tap of a backbone."""

import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.core.types import Encoder
from limbeck.features.images import ImageFn
from limbeck.models.eval_mode import eval_mode


def extract_matrix(
    say: Callable[[Tensor], Mapping[int, Tensor]],
    look: ImageFn,
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


def extract(
    backbone: Encoder,
    look: ImageFn,
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

    One forward pass per batch, in eval mode (the mode of `backbone`, which is moved to `device`, is restored);
    `batch_size`, `memory` and `show` are those of `extract_matrix`.
    """
    backbone.to(device)
    dims = {tap: backbone.tap_dims[tap] for tap in backbone.taps if taps is None or tap in taps}

    def say(images: Tensor) -> dict[int, Tensor]:
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            return backbone(images, taps=tuple(dims)).taps

    with eval_mode(backbone):
        return extract_matrix(say, look, rows, dims, device=device, batch_size=batch_size, memory=memory, show=show)


def _allocate(rows: int, dims: Mapping[int, int], memory: int, device: torch.device) -> dict[int, Tensor]:
    if 4 * rows * sum(dims.values()) <= memory:
        return {key: torch.empty(rows, dim, device=device) for key, dim in dims.items()}
    return {key: _mapped(rows, dim) for key, dim in dims.items()}


def _mapped(rows: int, dim: int) -> Tensor:
    with tempfile.TemporaryFile() as file:  # the mapping keeps the file alive; both go with the tensor
        return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, dim)))
