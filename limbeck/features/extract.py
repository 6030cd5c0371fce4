"""Features of the images of a store, in one pass: from any network, or from every tap of a backbone."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.disk import reason, reserve
from limbeck.core.errors import UserError
from limbeck.core.progress import progress
from limbeck.core.text import format_bytes
from limbeck.core.types import Encoder
from limbeck.features.images import ImageFn
from limbeck.models.eval_mode import eval_mode

FeatureFn = Callable[[Tensor], Mapping[int, Tensor]]
"""From images, float32 [B 3 H W], to features by key, [B D_key]."""


def extract_matrix(
    features: FeatureFn,
    images: ImageFn,
    rows: NDArray[np.int64],
    dims: Mapping[int, int],
    *,
    device: torch.device,
    batch_size: int = 256,
    memory: int = 2**32,
    show: str = "",
    unit: str = "images",
) -> dict[int, Tensor]:
    """Return the features of the images at `rows`: key -> float32 [N dims[key]].

    Args:
        features: called once per batch.
        images: makes the input of `features` from rows of the store.
        rows: [N].
        dims: the width of the features, by key.
        device: where the result is kept while its 4 N sum(dims) bytes do not exceed `memory`. Beyond that, it is
            memory-mapped to an unnamed file in the system's folder for temporary files.
        batch_size: images per call.
        memory: in bytes.
        show: text of the progress bar; no bar if empty.
        unit: what the rows are called there.
    """
    bank = _allocate(len(rows), dims, memory, device)
    parts = [slice(start, min(start + batch_size, len(rows))) for start in range(0, len(rows), batch_size)]
    for part in progress(parts, show, unit=unit, size=lambda part: part.stop - part.start):
        for key, values in features(images(rows[part])).items():
            bank[key][part] = values
    return bank


def extract(
    backbone: Encoder,
    images: ImageFn,
    rows: NDArray[np.int64],
    *,
    taps: Sequence[int] | None = None,
    device: torch.device,
    batch_size: int = 256,
    bf16: bool = False,
    memory: int = 2**32,
    show: str = "",
    unit: str = "images",
) -> dict[int, Tensor]:
    """Return the pooled features of the images at `rows` [N] at `taps` (default: all): tap -> float32 [N D_tap].

    Runs one forward pass per batch in evaluation mode and restores the mode of `backbone`, which is moved to `device`.
    `images`, `batch_size`, `memory`, `show` and `unit` are those of `extract_matrix`.
    """
    backbone.to(device)
    dims = {tap: backbone.tap_dims[tap] for tap in backbone.taps if taps is None or tap in taps}

    def features(batch: Tensor) -> dict[int, Tensor]:
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            return backbone(batch, taps=tuple(dims)).taps

    with eval_mode(backbone):
        return extract_matrix(
            features, images, rows, dims, device=device, batch_size=batch_size, memory=memory, show=show, unit=unit
        )


def _allocate(rows: int, dims: Mapping[int, int], memory: int, device: torch.device) -> dict[int, Tensor]:
    if 4 * rows * sum(dims.values()) <= memory:
        return {key: torch.empty(rows, dim, device=device) for key, dim in dims.items()}
    return {key: _mapped(rows, dim) for key, dim in dims.items()}


def _mapped(rows: int, dim: int) -> Tensor:
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # the mapping keeps the file open until the tensor is freed
            reserve(file, 4 * rows * dim)
            return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="r+", shape=(rows, dim)))
    except OSError as error:
        raise UserError(
            f"{format_bytes(4 * rows * dim)} of features do not fit into '{folder}' ({reason(error)}): set TMPDIR to "
            "another folder, or allow more memory (--memory-gib)",
            code="no-room-for-features",
        ) from error
