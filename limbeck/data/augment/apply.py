"""Augment batches: pure functions (images, parameters) -> images, on the device of the images.

Every operation equals torchvision's functional operation on float tensors, with clamps to [0, 1] in the same places;
`tests/data/augment/test_apply.py` states the tolerances. Large views on a CPU are made by `planes`, one by one.
"""

from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.data.augment.blur import blur
from limbeck.data.augment.color import jitter_, luma, on_rows, solarize_
from limbeck.data.augment.draw_parameters import Params
from limbeck.data.augment.planes import view_planes
from limbeck.data.augment.resample import NATIVE_SIZE, resample
from limbeck.data.augment.views import View

# Pixel values (floats) that are processed at once. On a CPU, they and their temporaries fit into a second-level cache
# of 2 MB (85 images of 32 px; a quarter as many cost 40 % more). Elsewhere, the temporaries stay below about 2 GB.
_CHUNK = {"cpu": 2**18}
_LARGE_CHUNK = 2**26


def augment(images: Tensor, view: View, params: Params, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Compute one view of every image: [B S S 3] uint8 -> [B 3 size size] float32, normalized by `mean` and `std` [3].

    The result is on the device of `images`; `params` come from `sample_params`.
    """
    out = torch.empty(len(images), 3, view.size, view.size, device=images.device)
    on_cpu = images.device.type == "cpu"
    side = max(view.size, images.shape[1]) if view.jitter_first else view.size
    chunk = max(1, _CHUNK.get(images.device.type, _LARGE_CHUNK) // (3 * side * side))
    # A call of torch is cheaper without autograd, and `out` is a tensor as any other. The tests have fake GPUs only.
    with torch.inference_mode(on_cpu):
        if on_cpu and view.size > NATIVE_SIZE and not view.jitter_first:
            view_planes(images, view, params, mean, std, out)
            return out
        for start in range(0, len(images), chunk):
            stop = start + chunk
            x = _view(images[start:stop], view, params.part(start, stop))
            _normalize(x, mean, std, out[start:stop])
    return out


def central_side(store: int, size: int) -> int:
    """Return the side of the central square that `eval_view` shows of a store with images of `store` pixels."""
    return min(store, max(size, store * 7 // 8))


def eval_view(
    images: Tensor,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> Tensor:
    """Compute the deterministic central view: [B S S 3] uint8 -> [B 3 size size] float32, normalized.

    A store larger than `size` is cropped to its central 7/8 (224 of 256 px, the usual evaluation), but to no fewer than
    `size` pixels. A store of `size` pixels or fewer is used whole. The crop is resized to `size` where it differs.
    """
    store = images.shape[1]
    side = central_side(store, size)
    corner = (store - side) // 2
    box = np.tile(np.array([corner, corner, side, side]), (len(images), 1))
    x = resample(images.permute(0, 3, 1, 2), box, np.zeros(len(images), bool), size, interpolation)
    _normalize(x, mean, std, out=x)
    return x


def _view(images: Tensor, view: View, params: Params) -> Tensor:
    """Compute a view before normalization: [B S S 3] uint8 -> [B 3 size size] float32 in [0, 1]."""
    x = images.permute(0, 3, 1, 2)
    if view.jitter_first:
        x = _color(x.to(torch.float32, memory_format=torch.contiguous_format).div_(255), params)
    x = resample(x, params.box, params.flip, view.size, view.interpolation)
    if not view.jitter_first:
        x = _color(x, params)
    x = on_rows(x, params.blur, lambda some, rows: blur(some, params.sigma[rows]))
    return on_rows(x, params.solarize, lambda some, rows: solarize_(some))


def _color(x: Tensor, params: Params) -> Tensor:
    x = on_rows(x, params.jitter, lambda some, rows: jitter_(some, params.order[rows], params.factors[rows]))
    return on_rows(x, params.grayscale, lambda some, rows: some.copy_(luma(some)))


def _normalize(x: Tensor, mean: Sequence[float], std: Sequence[float], out: Tensor) -> None:
    """Write (x - mean) / std to `out`, in one pass per channel; `x` and `out` are [B 3 H W]."""
    channels = zip(mean, std, x.unbind(1), out.unbind(1), strict=True)
    for center, spread, values, normalized in channels:
        torch.add(_scalar(-center / spread), values, alpha=1 / spread, out=normalized)


@cache
def _scalar(value: float) -> Tensor:
    return torch.tensor(value)
