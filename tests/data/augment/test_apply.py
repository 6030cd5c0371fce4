"""Views against torchvision's functional operations on float tensors.

Tolerance: 1e-4 on normalised pixels, where one grey level is 0.017. Results above 64 px on the CPU come from a uint8
crop, resized by torch's own kernel: there the oracle resizes the same crop, which lies within a level of a float one.
Their hue turns in 64ths of a grey level, which later operations may make six times as large: 2e-3 there.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from limbeck.data.augment.apply import augment, eval_view
from limbeck.data.augment.blur import BLUR_RADIUS, PlaneBlur, blur
from limbeck.data.augment.color import shift_hue_
from limbeck.data.augment.draw_parameters import Params, sample_params
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD, PRESETS, View, preset

JITTER = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
ONES, ZEROS = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    """[B S S 3] uint8: smooth colours with some noise, and black, white and grey corners."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    noisy = smooth + 0.05 * torch.randn(count, 3, size, size, generator=generator)
    pixels = (noisy * 300 - 20).clamp(0, 255).to(torch.uint8)
    pixels[:, :, :2, :2], pixels[:, :, -2:, :2], pixels[:, :, :2, -2:] = 0, 255, 127
    return pixels.permute(0, 2, 3, 1).contiguous()


def drawn(view: View, count: int, size: int) -> Params:
    sizes = torch.full((count,), size)
    return sample_params(view, 0, torch.arange(count), sizes, sizes, size, seed=3, epoch=1)


def colour(x: Tensor, params: Params, i: int) -> Tensor:
    if params.jitter[i]:
        for operation in params.order[i]:
            x = JITTER[operation](x, float(params.factors[i, operation]))
    return tv.rgb_to_grayscale(x, 3) if params.grayscale[i] else x


def crop(x: Tensor, view: View, params: Params, i: int) -> Tensor:
    top, left, height, width = params.box[i].tolist()
    mode = tv.InterpolationMode(view.interpolation)
    x = tv.resized_crop(x, top, left, height, width, [view.size, view.size], mode, antialias=True)
    return tv.horizontal_flip(x) if params.flip[i] else x


def reference(pixels: Tensor, view: View, params: Params, i: int) -> Tensor:
    """One view [3 size size] of `pixels` [S S 3], by torchvision's functional operations."""
    x = pixels.permute(2, 0, 1)
    if view.jitter_first:
        x = crop(colour(x / 255, params, i), view, params, i).clamp(0, 1)
    elif view.size > 64:
        x = colour(crop(x, view, params, i) / 255, params, i)
    else:
        x = colour(crop(x / 255, view, params, i).clamp(0, 1), params, i)
    if params.blur[i]:
        taps = 2 * BLUR_RADIUS + 1
        x = tv.gaussian_blur(x, [taps, taps], [float(params.sigma[i])] * 2)
    x = tv.solarize(x, 0.5) if params.solarize[i] else x
    return tv.normalize(x, list(IMAGENET_MEAN), list(IMAGENET_STD))


def check(view: View, store: int, count: int, atol: float = 1e-4) -> None:
    pixels, params = pictures(count, store), drawn(view, count, store)
    ours = augment(pixels, view, params, IMAGENET_MEAN, IMAGENET_STD)
    theirs = torch.stack([reference(pixels[i], view, params, i) for i in range(count)])
    assert ours.shape == (count, 3, view.size, view.size)
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("store", "size"), [(32, 32), (48, 24)])
def test_small_views_equal_torchvision(name: str, store: int, size: int) -> None:
    for view in set(preset(name, size)):
        check(view, store, count=48)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("store", "size"), [(128, 96), (80, 101)])
def test_large_views_equal_torchvision(name: str, store: int, size: int) -> None:
    for view in set(preset(name, size)):
        still = replace(view, jitter=(*view.jitter[:3], 0.0))
        check(view, store, count=12, atol=1e-4 if view == still or view.jitter_first else 2e-3)


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_large_views_without_hue_are_as_close_as_small_ones(name: str) -> None:
    for view in set(preset(name, 96)):
        check(replace(view, jitter=(*view.jitter[:3], 0.0)), 128, count=12)


@pytest.mark.parametrize("size", [40, 96])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_alone(size: int, interpolation: str) -> None:
    """Enlarged and reduced boxes, one pixel high or wide ones too."""
    view = View(size=size, interpolation=interpolation)  # type: ignore[arg-type]
    params = drawn(view, 12, 80)._replace(
        box=np.array([[0, 0, 80, 80], [79, 0, 1, 80], [5, 79, 70, 1], [30, 40, 1, 1]] * 3, np.int64)
    )
    pixels = pictures(12, 80)
    ours = augment(pixels, view, params, ZEROS, ONES)
    whole = torch.stack([crop(p.permute(2, 0, 1), view, params, i) for i, p in enumerate(pixels)])
    exact = torch.stack([crop(p.permute(2, 0, 1) / 255, view, params, i) for i, p in enumerate(pixels)]).clamp(0, 1)
    torch.testing.assert_close(ours, whole / 255 if size > 64 else exact, atol=1e-5, rtol=0)
    if interpolation == "bilinear":
        torch.testing.assert_close(ours, exact, atol=1.01 / 255, rtol=0)


@pytest.mark.parametrize("size", [32, 72])
@pytest.mark.parametrize("operation", range(4), ids=[f.__name__ for f in JITTER])
def test_jitter_operation_alone(operation: int, size: int) -> None:
    """All images with the same operation first and the others doing nothing, from no effect to the strongest."""
    view = View(size=size, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter_p=1.0)
    count = 21
    strengths = np.linspace(-0.5, 0.5, count) if operation == 3 else np.linspace(0, 2, count)
    factors = np.tile(np.array([1, 1, 1, 0], np.float32), (count, 1))
    factors[:, operation] = strengths
    params = drawn(view, count, size)._replace(factors=factors)
    pixels = pictures(count, size)
    ours = augment(pixels, view, params, ZEROS, ONES)
    theirs = [JITTER[operation](p.permute(2, 0, 1) / 255, float(f)) for p, f in zip(pixels, strengths, strict=True)]
    coarse = size > 64 and operation == 3
    torch.testing.assert_close(ours, torch.stack(theirs), atol=1 / 255 / 20 if coarse else 2e-5, rtol=0)


def test_hue_of_every_colour() -> None:
    """Greys, primaries, and all corners and edges of the sextants, by every shift."""
    levels = torch.linspace(0, 1, 6)
    cube = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).reshape(1, 3, 12, 18)
    for shift in np.linspace(-0.5, 0.5, 25):
        ours = shift_hue_(cube.clone(), np.array([shift], np.float32))
        torch.testing.assert_close(ours, tv.adjust_hue(cube, float(shift)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [12, 33, 96, 101])
def test_blur_alone(size: int) -> None:
    """Any size, tiles that do not divide it included, one sigma per image."""
    x = torch.rand(9, 3, size, size, generator=torch.Generator().manual_seed(0))
    sigma = np.array([0.1, 0.2, 0.21, 0.3, 0.8, 1.0, 1.4, 1.7, 2.0], np.float32)
    taps = 2 * min(BLUR_RADIUS, size - 1) + 1
    theirs = torch.stack([tv.gaussian_blur(i, [taps, taps], [float(s)] * 2) for i, s in zip(x, sigma, strict=True)])
    torch.testing.assert_close(blur(x, sigma), theirs, atol=2e-5, rtol=0)
    torch.testing.assert_close(blur(x[2:3], sigma[2:3]), theirs[2:3], atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [65, 96, 101])
def test_blur_of_planes_is_that_of_batches(size: int) -> None:
    """One buffer for one sigma after another; what the plane was is no longer needed."""
    sigma = np.array([2.0, 0.1, 0.21, 1.4, 0.3, 2.0], np.float32)
    x = torch.rand(len(sigma), 1, size, size, generator=torch.Generator().manual_seed(0))
    planes = PlaneBlur(size)
    ours = [planes.of(float(s))(plane).reshape(size, size).clone() for s, plane in zip(sigma, x[:, 0], strict=True)]
    alone = [blur(plane[None], sigma[i : i + 1])[0, 0] for i, plane in enumerate(x)]
    torch.testing.assert_close(torch.stack(ours), torch.stack(alone), atol=1e-6, rtol=0)


def test_solarise_is_pils_on_whole_levels() -> None:
    """Levels 0 to 127 stay and 128 to 255 are inverted, as with PIL's threshold 128."""
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    view = View(size=16, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, solarize=1.0)
    ours = augment(levels, view, drawn(view, 1, 16), ZEROS, ONES)
    theirs = tv.solarize(levels.permute(0, 3, 1, 2), 128)
    torch.testing.assert_close(ours, theirs / 255, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [32, 96])
def test_a_view_does_not_depend_on_its_batch(size: int) -> None:
    view = preset("byol", size)[1]
    pixels, params = pictures(9, 100), drawn(view, 9, 100)
    whole = augment(pixels, view, params, ZEROS, ONES)
    parts = [augment(pixels[i : i + 4], view, params.part(i, i + 4), ZEROS, ONES) for i in (0, 4, 8)]
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-6 if size == 32 else 0, rtol=0)


def test_views_can_be_trained_on() -> None:
    view = preset("byol", 32)[0]
    made = augment(pictures(4, 32), view, drawn(view, 4, 32), IMAGENET_MEAN, IMAGENET_STD)
    weight = torch.ones((), requires_grad=True)
    (weight * made).sum().backward()  # for which autograd keeps the views
    torch.testing.assert_close(weight.grad, made.sum())


def test_input_is_left_alone() -> None:
    pixels = pictures(4, 32)
    before = pixels.clone()
    for view in preset("byol", 32):
        augment(pixels, view, drawn(view, 4, 32), IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize(
    ("store", "size", "side"), [(32, 32, 32), (256, 224, 224), (36, 32, 32), (128, 96, 112), (28, 32, 28)]
)
def test_eval_view(store: int, size: int, side: int) -> None:
    """The central part, resized where its side differs from the result's."""
    pixels = pictures(2, store)
    start = math.floor((store - side) / 2)
    center = pixels[:, start : start + side, start : start + side].permute(0, 3, 1, 2)
    theirs = tv.resize(center if size > 64 else center / 255, [size, size], antialias=True)
    theirs = tv.normalize(theirs / 255 if size > 64 else theirs, list(IMAGENET_MEAN), list(IMAGENET_STD))
    ours = eval_view(pixels, size, IMAGENET_MEAN, IMAGENET_STD)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", PRESETS)
def test_cuda_equals_cpu(name: str) -> None:
    """On CUDA nothing is rounded to whole levels, so large results differ from the CPU's by a level before jitter."""
    for size, atol in ((32, 1e-4), (96, 0.1)):
        for view in set(preset(name, size)):
            pixels, params = pictures(16, 112), drawn(view, 16, 112)
            here = augment(pixels, view, params, IMAGENET_MEAN, IMAGENET_STD)
            there = augment(pixels.cuda(), view, params, IMAGENET_MEAN, IMAGENET_STD)
            torch.testing.assert_close(there.cpu(), here, atol=atol, rtol=0)
