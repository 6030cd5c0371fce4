"""Crop, flip and antialiased resize of a batch, one box per image, as torchvision's `resized_crop(antialias=True)`."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.draw import Array

NATIVE_SIZE = 64  # pixels; on the CPU, larger results come from torch's own kernel


def resample(images: Tensor, box: Array, flip: Array, size: int, interpolation: str) -> Tensor:
    """Boxes of `images` [B 3 S S] (uint8, or float32 in [0, 1]) resized to [B 3 size size], float32 in [0, 1].

    `box` [B 4] int64 holds top, left, height, width in pixels; `flip` [B] mirrors an image left to right.

    Two ways to the same numbers, chosen by measurement (one core, 256 to 224 px: 0.16 ms against 2.4 ms; 32 px: see
    `benchmarks/views.py`): for large results on the CPU torch's kernel, image by image, which rounds uint8 input to
    whole grey levels as torchvision does; elsewhere two matrix products for the whole batch, in float32.
    """
    if images.device.type == "cpu" and size > NATIVE_SIZE:
        return _by_kernel(images, box, flip, size, interpolation)
    return _by_matrices(images, box, flip, size, interpolation)


def _by_kernel(images: Tensor, box: Array, flip: Array, size: int, interpolation: str) -> Tensor:
    out = torch.empty(len(images), 3, size, size)
    for i, (top, left, height, width) in enumerate(box.tolist()):
        crop = images[i : i + 1, :, top : top + height, left : left + width]
        resized = F.interpolate(crop, (size, size), mode=interpolation, antialias=True)
        out[i] = resized[0].flip(2) if flip[i] else resized[0]
    return out.div_(255) if images.dtype == torch.uint8 else out.clamp_(0, 1)


def _by_matrices(images: Tensor, box: Array, flip: Array, size: int, interpolation: str) -> Tensor:
    store = images.shape[-1]
    boxes = torch.from_numpy(box.astype(np.float32)).to(images.device, non_blocking=True)
    mirror = torch.from_numpy(flip).to(images.device, non_blocking=True)
    down = _weights(boxes[:, 0], boxes[:, 2], size, store, interpolation)  # [B size S]
    across = _weights(boxes[:, 1], boxes[:, 3], size, store, interpolation)
    across = torch.where(mirror[:, None, None], across.flip(1), across)
    if images.dtype == torch.uint8:
        down = down / 255
    out = down[:, None] @ images.to(torch.float32, memory_format=torch.contiguous_format) @ across.mT[:, None]
    return out.clamp_(0, 1)  # bicubic weights overshoot


def _weights(start: Tensor, length: Tensor, size: int, store: int, interpolation: str) -> Tensor:
    """[B size store]: row i holds the share of every store pixel in pixel i of a resize of [start, start + length).

    The filter is stretched by length / size where that exceeds 1 (antialiasing), and its rows are scaled to sum to 1
    over the pixels of the box, so that nothing outside the box is seen.
    """
    step = (length / size)[:, None, None]
    centre = start[:, None, None] + (torch.arange(size, device=start.device)[:, None] + 0.5) * step
    pixel = torch.arange(store, device=start.device) + 0.5
    distance = ((pixel - centre) / step.clamp(min=1)).abs_()
    weights = (1 - distance).clamp_(min=0) if interpolation == "bilinear" else _cubic(distance)
    inside = (pixel > start[:, None, None]) & (pixel < (start + length)[:, None, None])
    weights = weights.mul_(inside)
    return weights.div_(weights.sum(dim=2, keepdim=True))


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2, as in Pillow and in torch's antialiased kernel."""
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))
