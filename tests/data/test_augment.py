"""Views against torchvision: every operation, then whole chains."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from limbeck.data.augment import augment, blur, eval_view
from limbeck.data.draw import Params, draw
from limbeck.data.views import IMAGENET_MEAN, IMAGENET_STD, PRESETS, View, preset

JITTER = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    """[B S S 3] uint8: smooth colours with some noise, black, white and grey corners included."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    noisy = smooth + 0.05 * torch.randn(count, 3, size, size, generator=generator)
    pixels = (noisy * 300 - 20).clamp(0, 255).to(torch.uint8)
    pixels[:, :, :2, :2], pixels[:, :, -2:, :2], pixels[:, :, :2, -2:] = 0, 255, 127
    return pixels.permute(0, 2, 3, 1).contiguous()


def drawn(view: View, count: int, size: int) -> Params:
    sizes = torch.full((count,), size)
    return draw(view, 0, torch.arange(count), sizes, sizes, size, seed=3, epoch=1)


def colour(x: Tensor, params: Params, i: int) -> Tensor:
    if params.jitter[i]:
        for operation in params.order[i]:
            x = JITTER[operation](x, float(params.factors[i, operation]))
    return tv.rgb_to_grayscale(x, 3) if params.grey[i] else x


def reference(pixels: Tensor, view: View, params: Params, i: int) -> Tensor:
    """One view by torchvision's functional operations on a float tensor."""
    x = pixels.permute(2, 0, 1) / 255
    if view.jitter_first:
        x = colour(x, params, i)
    top, left, height, width = params.box[i].tolist()
    mode = tv.InterpolationMode(view.interpolation)
    x = tv.resized_crop(x, top, left, height, width, [view.size, view.size], mode, antialias=True).clamp(0, 1)
    x = tv.horizontal_flip(x) if params.flip[i] else x
    if not view.jitter_first:
        x = colour(x, params, i)
    if params.blur[i]:
        taps = 2 * min(11, view.size - 1) + 1
        x = tv.gaussian_blur(x, [taps, taps], [float(params.sigma[i])] * 2)
    x = tv.solarize(x, 0.5) if params.solarise[i] else x
    return tv.normalize(x, list(IMAGENET_MEAN), list(IMAGENET_STD))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("store", "size"), [(32, 32), (48, 24)])
def test_small_views_equal_torchvision(name: str, store: int, size: int) -> None:
    pixels = pictures(48, store)
    for view in set(preset(name, size)):
        params = drawn(view, len(pixels), store)
        ours = augment(pixels, view, params, IMAGENET_MEAN, IMAGENET_STD)
        theirs = torch.stack([reference(pixels[i], view, params, i) for i in range(len(pixels))])
        print(name, (ours - theirs).abs().max())
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
