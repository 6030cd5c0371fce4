"""Views per second on one thread: Limbeck's batches against the usual chains of torchvision, same recipe, same images.

    python benchmarks/views.py [--store STORE] [--repeats 7]

Prints a markdown table. Every chain starts from decoded images in memory (PIL images for the PIL chains) and ends with
normalised float32 tensors. Repeats of the chains alternate, time is CPU time of the process, a cell is the median of
the repeats with their range, and a ratio is the median of the ratios within a repeat: a busy machine hurts all alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torchvision.transforms import v2

from limbeck.data.augment.apply import augment
from limbeck.data.augment.draw_parameters import sample_params
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD, View, preset
from limbeck.data.store.store import Store

Chain = Callable[[int], object]  # the number of the repeat -> the views, thrown away


class PilBlur(nn.Module):
    """Pillow's own blur, faster than torchvision's on a PIL image (three box filters instead of a Gaussian)."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, image: Image.Image) -> Image.Image:
        sigma = torch.empty(1).uniform_(self.low, self.high).item()
        return image.filter(ImageFilter.GaussianBlur(sigma))


def torchvision_chain(view: View, blur: nn.Module) -> nn.Module:
    """Return the recipe of `view` in torchvision's words, for one PIL image or one uint8 tensor [3 S S]."""
    steps = [
        v2.RandomResizedCrop(view.size, view.scale, view.ratio),
        v2.RandomHorizontalFlip(view.flip),
        v2.RandomApply([v2.ColorJitter(*view.jitter)], view.jitter_p),
        v2.RandomGrayscale(view.grayscale),
        *([v2.RandomApply([blur], view.blur)] if view.blur else []),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD)),
    ]
    chain: nn.Module = v2.Compose(steps)
    return chain


def chains(images: Tensor, view: View) -> dict[str, Chain]:
    """Name -> a function that makes one view of each of `images` [B S S 3] uint8; the first is ours."""
    count, store = images.shape[:2]
    rows, sizes = torch.arange(count), torch.full((count,), store)
    pictures = [Image.fromarray(image.numpy()) for image in images]
    tensors = list(images.permute(0, 3, 1, 2).contiguous())
    gaussian = v2.GaussianBlur(23, view.blur_sigma)
    pil, tensor = torchvision_chain(view, gaussian), torchvision_chain(view, gaussian)
    pil_blur = torchvision_chain(view, PilBlur(*view.blur_sigma))

    def ours(repeat: int) -> Tensor:
        params = sample_params(view, 0, rows, sizes, sizes, store, seed=0, epoch=repeat)
        return augment(images, view, params, IMAGENET_MEAN, IMAGENET_STD)

    named: dict[str, Chain] = {"limbeck": ours, "PIL": lambda repeat: [pil(picture) for picture in pictures]}
    if view.blur:
        named["PIL, Pillow's blur"] = lambda repeat: [pil_blur(picture) for picture in pictures]
    named["tensor"] = lambda repeat: [tensor(one) for one in tensors]
    return named


def measure(named: dict[str, Chain], count: int, repeats: int) -> dict[str, list[float]]:
    """Return views per second of CPU time, by chain and repeat."""
    speeds: dict[str, list[float]] = {name: [] for name in named}
    for repeat in range(repeats + 1):
        for name, chain in named.items():
            start = time.process_time()
            chain(repeat)
            speeds[name].append(count / (time.process_time() - start))
    return {name: values[1:] for name, values in speeds.items()}  # the first round warms up


def report(title: str, speeds: dict[str, list[float]]) -> None:
    ours = next(iter(speeds.values()))
    for name, values in speeds.items():
        ratio = statistics.median(mine / other for mine, other in zip(ours, values, strict=True))
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"| {title} | {name} | {statistics.median(values):,.0f} | {spread} | {ratio:.1f} |", flush=True)


def smooth_images(count: int, size: int) -> Tensor:
    """[B S S 3] uint8: coarse random colours, enlarged."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    images = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255)
    return images.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def stored_images(path: Path, count: int, size: int) -> Tensor:
    """[B size size 3] uint8: the first rows of a store, resized if it has another size."""
    images = torch.from_numpy(Store.open(path).images[:count].copy()).permute(0, 3, 1, 2)
    resized: Tensor = v2.functional.resize(images, [size, size], antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="a store folder; synthetic images without it")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| SimCLR views | chain | views/s | range | limbeck is faster by |\n|---|---|---|---|---|")
    for size, store, count in ((32, 32, 512), (224, 256, 32)):
        images = stored_images(args.store, count, store) if args.store else smooth_images(count, store)
        recipe = preset("simclr", size)[0]
        for blur in (0.0, 0.5):
            title = f"{store} to {size} px, {'blur p 0.5' if blur else 'no blur'}"
            report(title, measure(chains(images, replace(recipe, blur=blur)), len(images), args.repeats))


if __name__ == "__main__":
    main()
