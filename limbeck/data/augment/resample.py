"""Crop, flip and antialiased resize of a batch, one box per image, as torchvision's `resized_crop(antialias=True)`."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.augment.color import to_device
from limbeck.data.augment.draw_parameters import Array

NATIVE_SIZE = 64  # pixels; on the CPU, larger results come from torch's own kernel


def resample(images: Tensor, box: Array, flip: Array, size: int, interpolation: str) -> Tensor:
    """Resize boxes of `images` [B 3 S S] (uint8, or float32 in [0, 1]) to [B 3 size size], float32 in [0, 1].

    `box` [B 4] int64 holds top, left, height, width in pixels; `flip` [B] mirrors an image left to right.

    There are two implementations, chosen by measurement. For large results on the CPU: torch's kernel, image by image,
    which rounds uint8 input to whole gray levels as torchvision does (256 to 224 px on one core: 0.2 ms against 2.4 ms
    for matrices). Elsewhere: two matrix products for the whole batch, in float32.
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
    return out.mul_(1 / 255) if images.dtype == torch.uint8 else out.clamp_(0, 1)


def _by_matrices(images: Tensor, box: Array, flip: Array, size: int, interpolation: str) -> Tensor:
    batch, _, store, _ = images.shape
    sides = box.reshape(batch, 2, 2).transpose(1, 2, 0)  # (corner, extent) x (vertical, horizontal) x B
    down, across = _weights(
        sides[0], sides[1], np.stack([np.zeros_like(flip), flip]), size, store, interpolation, images.device
    )
    if images.dtype == torch.uint8:
        down = down / 255
    rows = images.permute(0, 2, 3, 1).to(torch.float32).reshape(batch, store, store * 3)
    rows = torch.bmm(down, rows).view(batch, size, store, 3).permute(0, 3, 1, 2)  # [B 3 size S]
    out = torch.bmm(rows.reshape(batch, 3 * size, store), across.mT).view(batch, 3, size, size)
    return out.clamp_(0, 1) if interpolation == "bicubic" else out  # its weights overshoot


def _weights(
    start: Array, extent: Array, mirror: Array, size: int, store: int, interpolation: str, device: torch.device
) -> Tensor:
    """Return [2 B size S]: row i has the weight of every store pixel in pixel i of [start, start + extent) at `size`.

    `start`, `extent` and `mirror` are [2 B]. The filter is stretched by extent / size where that exceeds 1
    (antialiasing), and rows are scaled to sum to 1 over the pixels of the box: pixels outside the box have no weight.
    """
    step = extent / size
    first = start + np.where(mirror, extent - step / 2, step / 2)  # center of pixel 0
    pixel = np.arange(store) + 0.5
    inside = (pixel > start[..., None]) & (pixel < (start + extent)[..., None])
    numbers = np.stack([first, np.where(mirror, -step, step), 1 / np.maximum(step, 1)])
    first_, step_, density = to_device(numbers.astype(np.float32), device)[..., None, None]
    center = torch.arange(size, device=device)[:, None] * step_ + first_  # [2 B size 1]
    distance = (torch.arange(0.5, store, device=device) - center).mul_(density).abs_()
    weights = (1 - distance).clamp_(min=0) if interpolation == "bilinear" else _cubic(distance)
    weights.mul_(to_device(inside.astype(np.float32), device)[:, :, None])
    return weights.div_(weights.sum(dim=3, keepdim=True))


def _cubic(distance: Tensor) -> Tensor:
    """Evaluate Keys' cubic with a = -1/2, as in Pillow and in torch's antialiased kernel."""
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))
