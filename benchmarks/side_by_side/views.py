"""SimCLR's two views of an image, by every library's own chain: from equal stored rows, and from JPEG files."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.io import decode_jpeg
from torchvision.transforms import v2

from benchmarks.side_by_side.record import OURS, Measured, Measurements, Side, paired
from limbeck.data.augment.apply import augment
from limbeck.data.augment.draw_parameters import sample_params
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD, View, preset

Pixels = NDArray[np.uint8]
Chain = Callable[[Sequence[Pixels]], object]
"""From images [H W 3] to both views of all of them."""
TAPS = 23  # of torchvision's and kornia's blur, as in BYOL and SimCLR at 224 px; the others choose by sigma


def pictures(count: int, height: int, width: int) -> list[Pixels]:
    """Return images with smooth colors and some noise."""
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.rand(count, 3, 8, 8, generator=generator), (height, width), mode="bicubic")
    noisy = smooth + 0.02 * torch.randn(count, 3, height, width, generator=generator)
    return list((noisy * 255).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy())


def limbeck_side(images: Sequence[Pixels], view: View) -> Side:
    """Return Limbeck's views of the rows of a store."""
    rows, side = torch.from_numpy(np.stack(images)), images[0].shape[0]
    numbers, sides = torch.arange(len(rows)), torch.full((len(rows),), side)

    def run(epoch: int) -> None:
        for index in range(2):
            params = sample_params(view, index, numbers, sides, sides, side, seed=0, epoch=epoch)
            augment(rows, view, params, view.mean, view.std)

    return run


def lightly_chain(view: View) -> Chain:
    """Return lightly's transform, on PIL images."""
    from lightly.transforms import SimCLRTransform

    strength = view.jitter[0] / 0.8
    transform = SimCLRTransform(input_size=view.size, cj_strength=strength, gaussian_blur=view.blur)

    def run(images: Sequence[Pixels]) -> None:
        made = [transform(Image.fromarray(image)) for image in images]
        for views in zip(*made, strict=True):
            torch.stack(views)

    return run


def lightly_train_chain(view: View) -> Chain:
    """Return lightly-train's transform of SimCLR, on arrays, by OpenCV and albumentations."""
    import cv2
    from lightly_train._methods.simclr import simclr_transform as module

    cv2.setNumThreads(0)
    args = module.SimCLRTransformArgs(image_size=(view.size, view.size), num_channels=3)
    args.color_jitter.strength = view.jitter[0] / 0.8
    if not view.blur:
        args.gaussian_blur = None
    transform = module.SimCLRTransform(args)

    def run(images: Sequence[Pixels]) -> None:
        made = [transform({"image": image}) for image in images]
        for pair in zip(*made, strict=True):
            torch.stack([one["image"] for one in pair])

    return run


def torchvision_chain(view: View) -> Chain:
    """Return the recipe in the words of torchvision's second version, on uint8 tensors."""
    steps = [
        v2.RandomResizedCrop(view.size, view.scale, antialias=True),
        v2.RandomHorizontalFlip(view.flip),
        v2.RandomApply([v2.ColorJitter(*view.jitter)], view.jitter_p),
        v2.RandomGrayscale(view.grayscale),
        *([v2.RandomApply([v2.GaussianBlur(TAPS, view.blur_sigma)], view.blur)] if view.blur else []),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD)),
    ]
    chain = v2.Compose(steps)

    def run(images: Sequence[Pixels]) -> None:
        tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
        for _ in range(2):
            torch.stack([chain(tensor) for tensor in tensors])

    return run


def kornia_chain(view: View) -> Chain:
    """Return the recipe in kornia's words, on a batch of float32."""
    import kornia.augmentation as K

    blur = [K.RandomGaussianBlur((TAPS, TAPS), view.blur_sigma, p=view.blur)] if view.blur else []
    chain = torch.nn.Sequential(
        K.RandomResizedCrop((view.size, view.size), view.scale),
        K.RandomHorizontalFlip(view.flip),
        K.ColorJitter(*view.jitter, p=view.jitter_p),
        K.RandomGrayscale(p=view.grayscale),
        *blur,
        K.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
    )

    def run(images: Sequence[Pixels]) -> None:
        batch: Tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float() / 255
        for _ in range(2):
            chain(batch)

    return run


CHAINS: dict[str, Callable[[View], Chain]] = {
    "lightly": lightly_chain,
    "lightly-train": lightly_train_chain,
    "torchvision": torchvision_chain,
    "kornia": kornia_chain,
}


def on_images(chain: Chain, images: Sequence[Pixels]) -> Side:
    """Return the views of decoded images."""
    return lambda _: chain(images)


def on_files(chain: Chain, read: Callable[[bytes], Pixels], files: Sequence[bytes]) -> Side:
    """Return the views of JPEGs, decoded each time."""
    return lambda _: chain([read(file) for file in files])


def stored(rounds: int) -> Measurements:
    """Measure the views of equal stored rows."""
    for size, side, count in ((32, 32, 128), (224, 256, 16)):
        view, images = preset("simclr", size)[0], pictures(count, side, side)
        sides = {OURS: limbeck_side(images, view)}
        sides |= {name: on_images(make(view), images) for name, make in CHAINS.items()}
        yield Measured(
            f"two views at {size} px of equal stored rows",
            "ms per image",
            paired(sides, rounds, count),
            f"SimCLR's recipe, {count} images of {side} px in memory",
        )


def jpeg(rounds: int) -> Measurements:
    """Measure the views of JPEGs: decoded in every epoch by the others, and once, into a store, by Limbeck."""
    for size, side, (height, width), count in ((32, 32, (32, 32), 128), (224, 256, (375, 500), 16)):
        view, files = preset("simclr", size)[0], [encoded(image) for image in pictures(count, height, width)]
        sides = {OURS: limbeck_side(pictures(count, side, side), view)}
        sides |= {name: on_files(make(view), READERS[name], files) for name, make in CHAINS.items()}
        yield Measured(
            f"two views at {size} px of JPEGs",
            "ms per image",
            paired(sides, rounds, count),
            f"JPEGs of quality 90, {width} x {height}; Limbeck reads rows of {side} px of a store, decoded once",
        )


def encoded(image: Pixels) -> bytes:
    """Return an image as a JPEG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return file.getvalue()


def by_pillow(file: bytes) -> Pixels:
    """Decode a JPEG as data sets of Python do."""
    return np.array(Image.open(io.BytesIO(file)).convert("RGB"))


def by_torchvision(file: bytes) -> Pixels:
    """Decode a JPEG by torchvision."""
    pixels: Pixels = decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8)).permute(1, 2, 0).numpy()
    return pixels


READERS = {name: by_torchvision if name in ("torchvision", "kornia") else by_pillow for name in CHAINS}
"""How the users of each library read JPEGs."""
